"""The stages that train: `teacher` (labels alone), `distill` and `recover` (labels and the teacher's logits)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor

from edgekd.distill.losses import logit_kd
from edgekd.distill.teacher import frozen
from edgekd.models import network
from edgekd.recipe import Distill, Training
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.store import Metrics, stage
from edgekd.train import batches, loop
from edgekd.train.device import Place, open_fabric
from edgekd.train.loop import Course, Loss

_TOOLS = ("torch", "lightning-fabric", "safetensors")


@stage(name="teacher", writes="network", version=1, tools=_TOOLS, resumes=True)
def train_teacher(
    out: Path, run: Run, start: Path, code: Ref, train: Path, val: Path, config: Training, place: Place
) -> Metrics:
    """Train a network on the labels alone."""

    def cross_entropy(logits: Tensor, pixels: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)

    return _train("teacher", out, run, start, code, (train, val), config, place, lambda _: cross_entropy)


@stage(writes="network", version=1, tools=_TOOLS, resumes=True)
def distill(
    out: Path,
    run: Run,
    start: Path,
    code: Ref,
    teacher: Path,
    teacher_code: Ref,
    train: Path,
    val: Path,
    config: Distill,
    place: Place,
) -> Metrics:
    """Train the student under the teacher's logits."""
    return _distill("distill", out, run, start, code, (teacher, teacher_code), (train, val), config, place)


@stage(writes="network", version=1, tools=_TOOLS, resumes=True)
def recover(
    out: Path,
    run: Run,
    start: Path,
    code: Ref,
    teacher: Path,
    teacher_code: Ref,
    train: Path,
    val: Path,
    config: Distill,
    place: Place,
) -> Metrics:
    """Train a pruned network under the original teacher's logits."""
    return _distill("recover", out, run, start, code, (teacher, teacher_code), (train, val), config, place)


def _distill(
    name: str,
    out: Path,
    run: Run,
    start: Path,
    code: Ref,
    teacher: tuple[Path, Ref],
    splits: tuple[Path, Path],
    config: Distill,
    place: Place,
) -> Metrics:
    def loss_under(fabric: Fabric) -> Loss:
        supervise = frozen(network.load(*teacher), fabric, place)

        def loss(logits: Tensor, pixels: Tensor, labels: Tensor) -> Tensor:
            soft = supervise(pixels)
            return logit_kd(logits, soft, labels, config.temperature, config.alpha, config.label_smoothing)

        return loss

    return _train(name, out, run, start, code, splits, config, place, loss_under)


def _train(
    name: str,
    out: Path,
    run: Run,
    start: Path,
    code: Ref,
    splits: tuple[Path, Path],
    config: Training,
    place: Place,
    loss_under: Callable[[Fabric], Loss],
) -> Metrics:
    fabric = open_fabric(place)
    trained = network.load(start, code)
    train, val = (batches.read(split, fabric.device) for split in splits)
    course = Course(name, train, val, trained.plan.normalisation, config, keep_best=config.select == "best")
    outcome = loop.fit(trained.module, loss_under(fabric), course, fabric, out.parent, run)
    network.save(trained, out)
    return {
        "epoch": outcome.epoch,
        "epochs": config.epochs,
        "kept": config.select,
        "val_accuracy": outcome.accuracies[outcome.epoch - 1],
        "losses": list(outcome.losses),
        "val_accuracies": list(outcome.accuracies),
    }
