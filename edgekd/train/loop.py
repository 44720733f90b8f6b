"""The one training loop. It knows neither which stage calls nor what the loss is made of."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from edgekd.errors import ModelError
from edgekd.models.pixels import normalise
from edgekd.recipe import Training
from edgekd.run import Progress, Run
from edgekd.train import batches, checkpoint
from edgekd.train.batches import Examples
from edgekd.train.schedule import learning_rate
from edgekd.workload.normalisation import Normalisation

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits [B, classes] float32, pixels uint8 [B, 3, H, W], labels [B]) -> scalar."""

_SECONDS_BETWEEN_SIGNS = 0.5


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


@dataclass(frozen=True)
class Outcome:
    """How a training went. `epoch` counts from 1."""

    epoch: int
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]


def fit(module: nn.Module, loss: Loss, course: Course, fabric: Fabric, part: Path, run: Run) -> Outcome:
    """Train the module in place; `part` is the folder for the checkpoint, from which a killed training goes on.

    SGD with Nesterov momentum; weight decay spares norms and biases. Raises ModelError when the loss is not finite.
    """
    config = course.config
    state = checkpoint.load(part / checkpoint.FILE_NAME)
    module.to(memory_format=torch.channels_last)
    if state.epoch:
        module.load_state_dict(state.model)
        run.say(f"{course.stage}: goes on after epoch {state.epoch} of {config.epochs}")
    optimizer = _optimizer(module, config)
    model, wrapped = fabric.setup(module, optimizer)
    if state.epoch:
        wrapped.load_state_dict(state.optimizer)
    for number in range(state.epoch, config.epochs):
        clock = _Clock(course, number, state.accuracies, run)
        mean = _epoch(model, wrapped, loss, course, number, clock, fabric)
        accuracy = _accuracy(model, course)
        state.losses.append(mean)
        state.accuracies.append(accuracy)
        if course.keep_best and accuracy >= max(state.accuracies):
            state.kept_epoch, state.kept = number + 1, _copy(module)
        state.epoch, state.model, state.optimizer = number + 1, module.state_dict(), wrapped.state_dict()
        checkpoint.save(state, part / checkpoint.FILE_NAME)
        clock.epoch_done(mean, accuracy)
    if course.keep_best:
        module.load_state_dict(state.kept)
    kept = state.kept_epoch if course.keep_best else config.epochs
    return Outcome(kept, tuple(state.accuracies), tuple(state.losses))


def _epoch(
    model: nn.Module, optimizer: Optimizer, loss: Loss, course: Course, number: int, clock: _Clock, fabric: Fabric
) -> float:
    """Run one epoch and return its mean loss."""
    config = course.config
    # Dropout and the like draw from the global generator: seeded here, an epoch does not depend on those before.
    torch.manual_seed(config.seed * 1_000_003 + number)
    model.train()
    per_epoch = batches.steps_per_epoch(len(course.train), config.batch)
    total = torch.zeros((), device=course.train.labels.device)
    for index, (pixels, labels) in enumerate(batches.epoch(course.train, config, number)):
        step = number * per_epoch + index
        rate = learning_rate(config, step, config.epochs * per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        value = loss(model(normalise(pixels, course.normalisation)).float(), pixels, labels)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(value)
        optimizer.step()
        total += value.detach()
        if clock.is_due() or index + 1 == per_epoch:
            _check_finite(total.item(), course.stage, step, rate, config.batch)
            clock.sign(index + 1, per_epoch, total.item() / (index + 1))
    return total.item() / per_epoch


def _check_finite(total: float, stage: str, step: int, rate: float, batch: int) -> None:
    if not math.isfinite(total):
        raise ModelError(
            f"{stage}: the loss is not a number at step {step} (learning rate {rate:.4g}, batch {batch})",
            "lower the learning rate; the last good epoch is kept and the same command goes on from it",
        )


def _optimizer(module: nn.Module, config: Training) -> torch.optim.SGD:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    spared = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


@torch.inference_mode()
def _accuracy(model: nn.Module, course: Course) -> float:
    """Return top-1 on validation, in the precision of training."""
    model.eval()
    right = 0
    for start in range(0, len(course.val), 512):
        pixels = course.val.images[start : start + 512].permute(0, 3, 1, 2)
        logits = model(normalise(pixels, course.normalisation))
        right += int((logits.argmax(1) == course.val.labels[start : start + 512]).sum())
    return right / len(course.val)


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


class _Clock:
    """Speed and time left, shown twice a second and once per epoch."""

    def __init__(self, course: Course, number: int, accuracies: list[float], run: Run) -> None:
        self._course = course
        self._number = number
        self._run = run
        self._start = self._last = time.monotonic()
        self._accuracy = accuracies[-1] if accuracies else None

    def is_due(self) -> bool:
        """Return whether the last sign is long ago; asking costs no look at the device."""
        return time.monotonic() - self._last >= _SECONDS_BETWEEN_SIGNS

    def sign(self, steps: int, per_epoch: int, loss: float) -> None:
        """Show progress within the epoch."""
        self._last = time.monotonic()
        speed = steps * self._course.config.batch / (self._last - self._start)
        val = f"  val {100 * self._accuracy:.2f} %" if self._accuracy is not None else ""
        self._show(steps / per_epoch, f"loss {loss:.4f}{val}  {speed:.0f} images/s")

    def epoch_done(self, loss: float, accuracy: float) -> None:
        """Say how the epoch went."""
        config = self._course.config
        seconds = time.monotonic() - self._start
        left = seconds * (config.epochs - self._number - 1)
        images = batches.steps_per_epoch(len(self._course.train), config.batch) * config.batch
        note = (
            f"loss {loss:.4f}  val {100 * accuracy:.2f} %  {images / seconds:.0f} images/s  "
            f"{int(left) // 60}m{int(left) % 60:02d}s left"
        )
        self._show(1.0, note, milestone=True)

    def _show(self, part: float, note: str, milestone: bool = False) -> None:
        epochs = self._course.config.epochs
        done = round(1000 * (self._number + part))
        text = f"epoch {self._number + 1}/{epochs}  {note}"
        self._run.show(Progress(self._course.stage, done, 1000 * epochs, text, milestone))
