"""A project cut down to 8 images and one step: every stage runs in seconds, before a long training does."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from edgekd.project import Project
from edgekd.recipe import Distill, Prune, Recipe, Training
from edgekd.stage import Artifact
from edgekd.workload import arrays

T = TypeVar("T", bound=Training)
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
    if prune is not None and prune.recovery is not None:
        prune = prune.model_copy(update={"recovery": _one_step(prune.recovery)})
    if isinstance(prune, Prune) and prune.keep_latency is not None:
        # Any cut will do; the latency that can be reached is checked apart.
        prune = prune.model_copy(update={"keep_latency": None, "keep_macs": prune.keep_macs or 0.95})
    finetune = _one_step(recipe.finetune) if recipe.finetune else None
    return recipe.model_copy(update={"teacher": teacher, "distill": distill, "prune": prune, "finetune": finetune})


def _one_step(config: T) -> T:
    """Keep all that decides what code runs; a tiny rate, so that a wild one does not stop the rehearsal."""
    once = {"epochs": 1, "budget": "", "batch": _IMAGES, "lr": 1e-6}
    return config.model_copy(update=once | ({"seeds": ()} if isinstance(config, Distill) else {}))
