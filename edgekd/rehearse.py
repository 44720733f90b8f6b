"""A project cut down to 8 images and one step: every stage runs in seconds, before a long training does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgekd.project import Project
from edgekd.recipe import Recipe, Training
from edgekd.store import Artifact
from edgekd.workload import arrays

_IMAGES = 8


@contextmanager
def rehearsal_of(project: Project, data: Artifact) -> Iterator[tuple[Project, Artifact, Path]]:
    """Yield (project with almost no training, its data, a throw-away store folder)."""
    with tempfile.TemporaryDirectory(prefix="edgekd-rehearsal-") as name:
        folder = Path(name)
        few = folder / "data"
        for split in ("train", "val", "test", "calibration"):
            arrays.save(arrays.sample(arrays.load(data.path / split), _IMAGES), few / split)
        recipe = _short(project.recipe)
        yield replace(project, recipe=recipe, rehearsal=True), Artifact(data.stage, few, data.metrics), folder / "store"


def _short(recipe: Recipe) -> Recipe:
    teacher = recipe.teacher.model_copy(update={"train": _one_step(recipe.teacher.train)})
    distill = _one_step(recipe.distill) if recipe.distill else None
    prune = recipe.prune
    if prune is not None:
        prune = prune.model_copy(update={"recovery": _one_step(prune.recovery)})
    return recipe.model_copy(update={"teacher": teacher, "distill": distill, "prune": prune})


def _one_step(config: Training) -> Training:
    """Keep all that decides what code runs; a tiny rate, so that a wild one does not stop the rehearsal."""
    return config.model_copy(update={"epochs": 1, "batch": _IMAGES, "lr": 1e-6})
