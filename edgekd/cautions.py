"""Settings and data that are valid but seldom intended: reported once, before anything trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekd.recipe import Model, Recipe
from edgekd.workload.arrays import LABELS

_FEW = 10
"""Training images of a class below which what is learned of it is chance."""
_NAMED = 5


def counts(train: Path, classes: Sequence[str]) -> dict[str, int]:
    """Return how many training images each class has in a prepared split."""
    found = np.bincount(np.load(train / LABELS), minlength=len(classes))
    return {name: int(count) for name, count in zip(classes, found, strict=True)}


def cautions(recipe: Recipe, images: Mapping[str, int]) -> list[str]:
    """Return a line for each; `images` counts the training images of each class."""
    lines = [*_units("teacher", recipe.teacher)]
    if recipe.student is not None:
        lines += _units("student", recipe.student)
    return [*lines, *_large_batches(recipe, sum(images.values())), *_few(images)]


def _units(table: str, model: Model) -> list[str]:
    """Mean and std of images scaled to 0-1, as torchvision's documentation gives them."""
    if model.mean is None or model.std is None:
        return []
    largest, deviation = max(map(abs, model.mean)), max(model.std)
    if largest > 1 or (largest == 0 and deviation > 1):
        return []
    mean, std = ([round(255 * value, 3) for value in values] for values in (model.mean, model.std))
    return [
        f"{table}.mean = {list(model.mean)} and std = {list(model.std)} look like units 0-1, and pixels are 0-255: "
        f"for weights trained on 0-1 write mean = {mean} and std = {std}"
    ]


def _large_batches(recipe: Recipe, count: int) -> list[str]:
    large = [f"{table}.batch = {each.batch}" for table, each in recipe.trainings.items() if each.batch > count]
    if not large:
        return []
    return [f"{', '.join(large)}: train has {count} images, so an epoch is one step of {count}"]


def _few(images: Mapping[str, int]) -> list[str]:
    few = [f"{name} has {count}" for name, count in images.items() if count < _FEW]
    if not few:
        return []
    more = f" and {len(few) - _NAMED} more classes" if len(few) > _NAMED else ""
    return [f"few training images: {', '.join(few[:_NAMED])}{more}; below {_FEW}, what is learned of a class is chance"]
