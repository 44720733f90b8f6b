"""How far two evaluations differ, by the kind of each output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekd.standalone.judging import are_classes, disagreement, read, worst_sqnr, write

SCORES = np.eye(4, dtype=np.float32)[np.arange(20) % 4]


def compared(folder: Path, one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> tuple[float, float]:
    write(one, folder / "one.npz")
    write(other, folder / "other.npz")
    return disagreement(folder / "one.npz", folder / "other.npz"), worst_sqnr(folder / "one.npz", folder / "other.npz")


def test_of_scores_the_part_whose_class_differs_counts(tmp_path: Path) -> None:
    changed = SCORES.copy()
    changed[:3] = np.roll(changed[:3], 1, axis=1)
    assert compared(tmp_path, {"y": SCORES}, {"y": changed})[0] == pytest.approx(3 / 20)


def test_of_other_numbers_the_relative_error_counts(tmp_path: Path) -> None:
    depth = np.ones((5, 1, 4, 4), np.float32)
    found = compared(tmp_path, {"d": depth}, {"d": depth * 1.1})
    assert found == (pytest.approx(0.1, abs=1e-4), pytest.approx(20.0, abs=0.01))
    assert compared(tmp_path, {"d": depth}, {"d": depth * 0})[0] == 1.0


def test_of_integers_the_part_that_differs_counts(tmp_path: Path) -> None:
    classes = np.array([1, 2, 3, 4])
    assert compared(tmp_path, {"c": classes}, {"c": np.array([1, 2, 0, 0])})[0] == 0.5


def test_the_worst_of_all_outputs_decides(tmp_path: Path) -> None:
    ones = np.ones((3, 2, 2), np.float32)
    assert compared(tmp_path, {"a": SCORES, "b": ones}, {"a": SCORES, "b": ones * 0.5})[0] == pytest.approx(0.5)


def test_one_column_is_no_class(tmp_path: Path) -> None:
    assert are_classes(SCORES)
    assert not are_classes(SCORES[:, :1])
    assert not are_classes(SCORES.astype(np.int64))


def test_an_output_may_have_any_name(tmp_path: Path) -> None:
    write({"file": SCORES, "a/b": SCORES}, tmp_path / "one.npz")
    assert set(read(tmp_path / "one.npz")) == {"file", "a/b"}
