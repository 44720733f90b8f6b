"""What is seldom intended is reported, and what is usual is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd import recipe as recipes
from edgekd.cautions import cautions, counts
from edgekd.workload import arrays
from edgekd.workload.dataset import Split

MANY = {"bolt": 1000, "nut": 1000}


def said(images: dict[str, int] | None = None, **tables: Any) -> list[str]:
    values = {"name": "r", "data": {"source": "digits"}, "teacher": {"model": "m:f"}, **tables}
    return cautions(recipes.parse(values, "r.toml", Path()), images or MANY)


def units(mean: list[float], std: list[float]) -> int:
    """Return how many lines a teacher with this normalisation gets."""
    return len(said(teacher={"model": "m:f", "weights": "w.pt", "mean": mean, "std": std}))


@pytest.mark.parametrize(
    ("mean", "std", "lines"),
    [
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 1),
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], 1),
        ([0.5, 0.5, 0.5], [58.0, 57.0, 57.0], 1),
        ([0.0, 0.0, 0.0], [1.0, 1.0, 1.0], 1),
        ([0.0, 0.0, 0.0], [255.0, 255.0, 255.0], 0),
        ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], 0),
        ([103.939, 116.779, 123.68], [1.0, 1.0, 1.0], 0),
    ],
)
def test_a_normalisation_is_doubted_only_in_units_of_images_scaled_to_1(
    mean: list[float], std: list[float], lines: int
) -> None:
    assert units(mean, std) == lines


def test_every_batch_larger_than_the_data_is_named_in_one_line() -> None:
    tables = {"student": {"model": "m:g"}, "distill": {"batch": 100_000}, "prune": {"recovery": {"batch": 8}}}
    lines = said({"a": 40, "b": 25}, **tables, quantize={}, finetune={"batch": 66})
    assert lines == [
        "teacher.train.batch = 128, distill.batch = 100000, finetune.batch = 66: train has 65 images, so an epoch is "
        "one step of 65"
    ]


def test_a_batch_as_large_as_the_data_is_not_mentioned() -> None:
    assert said({"a": 64, "b": 64}) == []


def test_classes_of_few_images_are_named_with_their_numbers() -> None:
    assert said({"a": 240, "b": 240, "c": 3}) == [
        "few training images: c has 3; below 10, what is learned of a class is chance"
    ]
    line = said({**MANY, **{f"c{number}": number for number in range(8)}})[0]
    assert "c0 has 0, c1 has 1, c2 has 2, c3 has 3, c4 has 4 and 3 more classes; " in line


def test_images_are_counted_by_class_whether_or_not_there_are_any(tmp_path: Path) -> None:
    labels = np.array([0, 2, 2, 0, 2], np.int64)
    arrays.save(Split(np.zeros((5, 4, 4, 3), np.uint8), labels), tmp_path / "train")
    assert counts(tmp_path / "train", ["a", "b", "c", "d"]) == {"a": 2, "b": 0, "c": 3, "d": 0}
