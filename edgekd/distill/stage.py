"""The stages that train: `teacher` (labels alone), `distill` and `recover` (under a teacher), `teach` (its cache)."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgekd.distill import cache
from edgekd.distill.criterion import CrossEntropy, Features, Pair, Supervise, UnderTeacher
from edgekd.distill.sparsity import Sparsity, WithSparsity
from edgekd.distill.taps import Taps, shapes
from edgekd.distill.teacher import frozen
from edgekd.errors import ModelError
from edgekd.models import channels, network, transfer
from edgekd.models.network import Network
from edgekd.recipe import Augment, Distill, FeatureLoss, TeacherCache, Training
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.stage import Metrics, stage
from edgekd.train import batches, loop
from edgekd.train.batches import Batch
from edgekd.train.device import Place, open_fabric
from edgekd.train.loop import Course

_TOOLS = ("torch", "torchvision", "lightning-fabric", "safetensors", "numpy")


@stage(name="teacher", writes="network", version=2, tools=_TOOLS, resumes=True, trains=True)
def train_teacher(
    out: Path, run: Run, start: Path, code: Ref, train: Path, val: Path, config: Training, place: Place
) -> Metrics:
    """Train a network on the labels alone."""
    fabric = open_fabric(place)
    trained = network.load(start, code)
    course = course_of("teacher", trained, (train, val), config, fabric, place)
    course = replace(course, frozen=tuple(transfer.freeze(trained.module, trained.plan.frozen)))
    return _fit(trained, CrossEntropy(config.label_smoothing), course, fabric, out, run)


def _distill(  # noqa: PLR0913, PLR0917 - all that its key is made of
    out: Path,
    run: Run,
    name: str,
    start: Path,
    code: Ref,
    teacher: Path,
    teacher_code: Ref,
    logits: Path | None,
    train: Path,
    val: Path,
    groups: Path | None,
    keep_zeros: bool,
    config: Distill,
    place: Place,
) -> Metrics:
    """Train a network under a teacher; `logits` is what `teach` wrote, or None: the teacher is asked in each step.

    `groups` says of which channels together sparsity is asked; with `keep_zeros` weights that are zero stay so.
    """
    fabric = open_fabric(place)
    student = network.load(start, code)
    # A cut network needs all of its layers to recover.
    frozen = transfer.freeze(student.module, student.plan.frozen if name == "distill" else ())
    course = course_of(name, student, (train, val), config, fabric, place)
    course = replace(course, keep_zeros=keep_zeros, frozen=tuple(frozen))
    criterion = criterion_of(student, (teacher, teacher_code), logits, course, config, fabric, place)
    if groups is not None:
        criterion = WithSparsity(criterion, Sparsity(student.module, channels.read(groups), config.sparsity))
    return _fit(student, criterion, course, fabric, out, run)


distill = stage(name="distill", writes="network", version=4, tools=_TOOLS, resumes=True, trains=True)(_distill)
recover = stage(name="recover", writes="network", version=4, tools=_TOOLS, resumes=True, trains=True)(_distill)
"""As `distill`, of a pruned network under the original teacher."""


@stage(writes="logits", version=1, tools=_TOOLS, resumes=True, trains=True)
def teach(
    out: Path,
    run: Run,
    teacher: Path,
    teacher_code: Ref,
    train: Path,
    augment: Augment,
    seed: int,
    batch: int,
    config: TeacherCache,
    place: Place,
) -> Metrics:
    """Write the teacher's logits of each view of each training image. Killed, it goes on with the next view."""
    fabric = open_fabric(place)
    supervise = frozen(network.load(teacher, teacher_code), fabric, place)
    examples = batches.read(train, fabric.device)
    filling = out.parent / "filling"

    def ask(given: Batch) -> Tensor:
        return supervise(given.on(fabric.device).pixels)

    cache.write(filling, ask, examples, augment, seed, batch, config.views, config.top, run)
    # Links: a kill before the store has taken the folder finds all views again.
    shutil.copytree(filling, out, copy_function=os.link)
    return {"views": config.views, "bytes": sum(file.stat().st_size for file in out.iterdir())}


def course_of(
    name: str, trained: Network, splits: tuple[Path, Path], config: Training, fabric: Fabric, place: Place
) -> Course:
    """Return what the loop needs beside module and criterion."""
    train, val = (batches.read(split, fabric.device) for split in splits)
    cached = config.teacher_cache if isinstance(config, Distill) else None
    return Course(
        stage=name,
        train=train,
        val=val,
        normalisation=trained.plan.normalisation,
        config=config,
        keep_best=config.select == "best",
        views=cached.views if cached else 0,
        compiled=place.compiled,
    )


def criterion_of(
    student: Network,
    teacher: tuple[Path, Ref],
    logits: Path | None,
    course: Course,
    config: Distill,
    fabric: Fabric,
    place: Place,
) -> nn.Module:
    """Return the loss that the recipe asks for. Raises RecipeError and ModelError for layers that do not fit it."""
    # What a loss learns itself starts from the seed too.
    torch.manual_seed(config.seed)
    if not config.terms:
        return UnderTeacher(config, None, None)
    if logits is not None:
        return UnderTeacher(config, cache.read(logits, fabric.device), None)
    module = network.load(*teacher)
    features = _features(student.module, module.module, course, config)
    ask = frozen(module, fabric, place, fold=features is None)
    _check_teacher(ask(course.train.images[: config.batch].to(fabric.device).permute(0, 3, 1, 2)))
    supervise: Supervise = lambda batch: ask(batch.pixels)  # noqa: E731 - a def would hide its type
    return UnderTeacher(config, supervise, features)


def _check_teacher(logits: Tensor) -> None:
    """Once, before it supervises: in a training its failure would look like the student's."""
    if not logits.isfinite().all():
        raise ModelError(
            "the teacher gives logits that are no numbers", "check the teacher's weights, mean and std (data.size too)"
        )


def _features(student: nn.Module, teacher: nn.Module, course: Course, config: Distill) -> Features | None:
    terms = tuple(term for term in config.terms if isinstance(term, FeatureLoss))
    if not terms:
        return None
    height, width = course.train.images.shape[1:3]
    of_student, of_teacher = [term.student for term in terms], [term.teacher for term in terms]
    given = shapes(student, of_student, (height, width), "student")
    wanted = shapes(teacher, of_teacher, (height, width), "teacher")
    pairs = tuple(Pair(given[term.student], wanted[term.teacher]) for term in terms)
    for term, pair in zip(terms, pairs, strict=True):
        pair.check(term)
    return Features(terms, pairs, Taps(student, of_student, in_training=True), Taps(teacher, of_teacher, False))


def _fit(trained: Network, criterion: nn.Module, course: Course, fabric: Fabric, out: Path, run: Run) -> Metrics:
    outcome = loop.fit(trained.module, criterion, course, fabric, out.parent, run)
    network.save(trained, out)
    return {
        "epoch": outcome.epoch,
        "epochs": course.config.epochs,
        "kept": course.config.select,
        "val_accuracy": outcome.accuracies[outcome.epoch - 1],
        "losses": list(outcome.losses),
        "val_accuracies": list(outcome.accuracies),
    }
