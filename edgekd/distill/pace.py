"""How many epochs a time budget holds: the loop's own speed, measured once on this machine."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from lightning_fabric import Fabric

from edgekd.distill.criterion import CrossEntropy, UnderTeacher
from edgekd.distill.stage import course_of, criterion_of
from edgekd.distill.teacher import frozen
from edgekd.errors import RecipeError
from edgekd.models import network
from edgekd.recipe import Distill, Training
from edgekd.ref import Ref
from edgekd.train import loop
from edgekd.train.device import Place, open_fabric
from edgekd.train.loop import Course

_RESERVE = 0.05
"""The part of a budget that is not planned: start, checkpoints, other work on the machine."""


def epochs_within(
    name: str,
    start: Path,
    code: Ref,
    teacher: tuple[Path, Ref] | None,
    splits: tuple[Path, Path],
    config: Training,
    place: Place,
) -> int:
    """Return how many epochs end within `config.budget`, the filling of a teacher cache included.

    Raises RecipeError for a budget shorter than one epoch.
    """
    fabric = open_fabric(place)
    trained = network.load(start, code)
    course = course_of(name, trained, splits, config, fabric, place)
    view_seconds, views = 0.0, 0
    criterion: torch.nn.Module = CrossEntropy(config.label_smoothing)
    if isinstance(config, Distill) and teacher is not None:
        if config.teacher_cache is not None and config.terms:
            view_seconds, views = _seconds_per_view(teacher, course, fabric, place), config.teacher_cache.views
            nothing = torch.zeros(config.batch, _classes(trained, course), device=fabric.device)
            criterion = UnderTeacher(config, lambda batch: nothing[: len(batch.labels)], None)
        else:
            criterion = criterion_of(trained, teacher, None, course, config, fabric, place)
    epoch_seconds = loop.seconds_per_epoch(trained.module, criterion, course, fabric)
    found = fit_into(config.budget_seconds * (1 - _RESERVE), epoch_seconds, view_seconds, views)
    if found == 0:
        raise RecipeError(
            f'{name}: the budget "{config.budget}" is shorter than one epoch, '
            f"which takes about {epoch_seconds + view_seconds:.3g} s here",
            "raise the budget, or give epochs in place of it",
        )
    return found


def fit_into(seconds: float, epoch: float, view: float, views: int) -> int:
    """Return the most epochs e with e · epoch + min(e, views) · view <= seconds."""
    filling = min(int(seconds / (epoch + view)), views)
    if filling < views:
        return filling
    return int((seconds - views * view) / epoch)


def _seconds_per_view(teacher: tuple[Path, Ref], course: Course, fabric: Fabric, place: Place) -> float:
    """Return how long the teacher takes for all training images once."""
    teach = frozen(network.load(*teacher), fabric, place)
    pixels = course.train.images[: course.config.batch].to(fabric.device).permute(0, 3, 1, 2)

    def timed(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            teach(pixels)[0, 0].item()  # waits for the device
        return time.perf_counter() - start

    timed(2)
    return timed(10) / 10 * len(course.train) / len(pixels)


def _classes(trained: network.Network, course: Course) -> int:
    pixels = torch.zeros(2, 3, *course.train.images.shape[1:3])
    with torch.no_grad():
        return int(trained.module.eval()(pixels).shape[1])
