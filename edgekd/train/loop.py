"""The one training loop. It knows neither which stage calls nor what the loss is made of."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.optimizer import Optimizer

from edgekd.models.pixels import normalise
from edgekd.recipe import Training
from edgekd.run import Run
from edgekd.train import batches, checkpoint
from edgekd.train.average import Average
from edgekd.train.batches import Examples
from edgekd.train.clock import Clock
from edgekd.train.optimizer import optimizer_of
from edgekd.train.schedule import learning_rate
from edgekd.train.watch import Watch
from edgekd.train.zeros import Zeros
from edgekd.workload.normalisation import Normalisation

_VALIDATION_BATCH = 512


@dataclass(frozen=True)
class Course:
    """All that one training is made of, but for the module and the loss."""

    stage: str
    train: Examples
    val: Examples
    normalisation: Normalisation
    config: Training
    keep_best: bool
    """Keep the epoch that is best on validation; else the last."""
    views: int = 0
    """How many views an image has, which come again and again; 0: a new one each epoch."""
    compiled: bool = False
    """Run the module through torch.compile."""
    keep_zeros: bool = False
    """Keep at zero the weights that are zero before the training."""
    frozen: tuple[nn.Module, ...] = ()
    """Layers that do not learn: their BatchNorms stay in eval."""

    @property
    def steps(self) -> int:
        """How many steps an epoch has."""
        return batches.steps_per_epoch(len(self.train), self.config.batch)

    @property
    def images(self) -> int:
        """How many images an epoch shows."""
        return min(len(self.train), self.steps * self.config.batch)


@dataclass(frozen=True)
class Outcome:
    """How a training went. `epoch` counts from 1."""

    epoch: int
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class _Trainer:
    """What takes the steps."""

    model: nn.Module
    criterion: nn.Module
    optimizer: Optimizer
    fabric: Fabric
    course: Course
    zeros: Zeros | None


def fit(module: nn.Module, criterion: nn.Module, course: Course, fabric: Fabric, part: Path, run: Run) -> Outcome:
    """Train the module in place; `part` is the folder for the checkpoint, from which a killed training goes on.

    The criterion is called as (logits float32 [B, classes], Batch) -> scalar; parameters of its own are trained along.
    Raises DivergedError when loss or gradient is no number, or the loss runs away.
    """
    config = course.config
    zeros = Zeros(module) if course.keep_zeros else None
    file = part / checkpoint.FILE_NAME
    state = checkpoint.load(file)
    if state.epoch:
        run.say(f"{course.stage}: goes on after epoch {state.epoch} of {config.epochs}")
    trainer = _trainer(module, criterion, course, fabric, state, zeros)
    average = Average(module, config.ema) if config.ema else None
    if average is not None and state.average:
        average.module.load_state_dict(state.average)
    judged = average.module if average is not None else module
    for number in range(state.epoch, config.epochs):
        last = state.accuracies[-1] if state.accuracies else None
        clock = Clock(course.stage, config.epochs, number, course.steps, course.images, last, run)
        watch = Watch(course.stage, config, number, course.steps, state.first_loss, fabric.device, file)
        _epoch(trainer, number, average, watch, clock)
        accuracy = _accuracy(judged, course, fabric)
        state.losses.append(watch.mean())
        state.accuracies.append(accuracy)
        if course.keep_best and accuracy >= max(state.accuracies):
            state.kept_epoch, state.kept = number + 1, _copy(judged)
        state.epoch, state.first_loss, state.model = number + 1, watch.first, module.state_dict()
        state.criterion, state.optimizer = criterion.state_dict(), trainer.optimizer.state_dict()
        state.average = average.module.state_dict() if average is not None else {}
        checkpoint.save(state, file)
        clock.epoch_done(state.losses[-1], accuracy)
    kept = state.kept_epoch if course.keep_best else config.epochs
    module.load_state_dict(state.kept if course.keep_best else judged.state_dict())
    return Outcome(kept, tuple(state.accuracies), tuple(state.losses))


def seconds_per_epoch(
    module: nn.Module, criterion: nn.Module, course: Course, fabric: Fabric, steps: int = 20
) -> float:
    """Return how long an epoch with its validation takes here, from some steps on the first images."""
    trainer = _trainer(module, criterion, course, fabric, checkpoint.State())
    average = Average(module, course.config.ema) if course.config.ema else None

    def timed(count: int) -> float:
        watch = Watch(course.stage, course.config, 0, count, None, fabric.device)
        start = time.perf_counter()
        for index, batch in enumerate(batches.epoch(course.train, course.config, 0, course.views)):
            _step(trainer, batch, index, average, watch)
            if index + 1 == count:
                break
        watch.wait()
        return time.perf_counter() - start

    steps = min(steps, course.steps)
    timed(min(3, steps))
    training = timed(steps) * course.steps / steps
    few = min(len(course.val), 2 * _VALIDATION_BATCH)
    val = Examples(course.val.images[:few], course.val.labels[:few])
    start = time.perf_counter()
    _right(module, val, course.normalisation, fabric)
    return training + (time.perf_counter() - start) * len(course.val) / few


def _trainer(
    module: nn.Module,
    criterion: nn.Module,
    course: Course,
    fabric: Fabric,
    state: checkpoint.State,
    zeros: Zeros | None = None,
) -> _Trainer:
    """Put module and criterion onto the device, as they were when the state was saved."""
    module.to(fabric.device)
    # torch 2.14 has channels_last for images alone, and refuses a module that holds a kernel of three axes.
    if all(tensor.ndim != 5 for tensor in (*module.parameters(), *module.buffers())):
        module.to(memory_format=torch.channels_last)
    criterion.to(fabric.device)
    if state.epoch:
        module.load_state_dict(state.model)
        criterion.load_state_dict(state.criterion)
    optimizer = optimizer_of((module, criterion), course.config)
    if course.compiled:
        module.compile()
    model, wrapped = fabric.setup(module, optimizer)
    if state.epoch:
        wrapped.load_state_dict(state.optimizer)
    return _Trainer(model, criterion, wrapped, fabric, course, zeros)


def _epoch(trainer: _Trainer, number: int, average: Average | None, watch: Watch, clock: Clock) -> None:
    course = trainer.course
    # Dropout and the like draw from the global generator: seeded here, an epoch does not depend on those before.
    torch.manual_seed(course.config.seed * 1_000_003 + number)
    for index, batch in enumerate(batches.epoch(course.train, course.config, number, course.views)):
        _step(trainer, batch, number * course.steps + index, average, watch)
        if clock.is_due() or index + 1 == course.steps:
            clock.sign(index + 1, watch.mean())


def _step(trainer: _Trainer, batch: batches.Batch, step: int, average: Average | None, watch: Watch) -> None:
    """Take one step of gradient descent, without waiting for the device."""
    course, config, fabric = trainer.course, trainer.course.config, trainer.fabric
    trainer.model.train()
    for layer in course.frozen:
        layer.eval()
    batch = batch.on(fabric.device)
    rate = learning_rate(config, step, config.epochs * course.steps)
    for group in trainer.optimizer.param_groups:
        group["lr"] = rate
    logits = trainer.model(normalise(batch.pixels, course.normalisation)).float()
    loss = trainer.criterion(logits, batch)
    trainer.optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    trained = [each for group in trainer.optimizer.param_groups for each in group["params"] if each.grad is not None]
    norm = get_total_norm([each.grad for each in trained])
    if config.clip:
        clip_grads_with_norm_(trained, config.clip, norm)
    trainer.optimizer.step()
    if trainer.zeros is not None:
        trainer.zeros.keep()
    if average is not None:
        average.update(step)
    watch.note(loss, norm)


def _accuracy(module: nn.Module, course: Course, fabric: Fabric) -> float:
    """Return top-1 on validation, in the precision of training."""
    return _right(module, course.val, course.normalisation, fabric) / len(course.val)


@torch.inference_mode()
def _right(module: nn.Module, examples: Examples, normalisation: Normalisation, fabric: Fabric) -> int:
    module.eval()
    right = torch.zeros((), dtype=torch.int64, device=fabric.device)
    for start in range(0, len(examples), _VALIDATION_BATCH):
        images = examples.images[start : start + _VALIDATION_BATCH].to(fabric.device)
        labels = examples.labels[start : start + _VALIDATION_BATCH].to(fabric.device)
        with fabric.autocast():
            logits = module(normalise(images.permute(0, 3, 1, 2), normalisation))
        right += (logits.argmax(1) == labels).sum()
    return int(right)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
