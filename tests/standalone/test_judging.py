"""What counts as classes, and how two evaluations on disk compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from edgekd.errors import ModelError
from edgekd.quantize.divergence import Measure
from edgekd.standalone.judging import classes_of, compare, read, write
from tests.quantize.graphs import graph, node

SCORES = np.eye(4, dtype=np.float32)[np.arange(20) % 4]


def rows(*nodes: str, columns: int | str = 640) -> ModelProto:
    """An output [N, columns], made by these operators one after the other."""
    names = ["x", *(f"t{number}" for number in range(len(nodes) - 1)), "y"]
    body = [node(kind, [source], result) for kind, source, result in zip(nodes, names[:-1], names[1:], strict=True)]
    return graph(body, {}, given=["N", columns], made=["N", columns])


def test_a_spectrum_or_an_embedding_is_not_taken_for_classes() -> None:
    assert classes_of(rows("Relu"), "auto", has_labels=False) == ()
    assert classes_of(rows("Relu"), "classification", has_labels=False) == ("y",)
    assert classes_of(rows("Relu"), "auto", has_labels=True) == ("y",)
    assert classes_of(rows("Relu"), "dense", has_labels=True) == ()


def test_a_softmax_at_the_end_tells_classes() -> None:
    assert classes_of(rows("Relu", "Softmax", "Identity"), "auto", has_labels=False) == ("y",)
    assert classes_of(rows("Softmax", "Relu"), "auto", has_labels=False) == ()


def test_one_column_is_not_classes() -> None:
    assert classes_of(rows("Softmax", columns=1), "auto", has_labels=True) == ()
    with pytest.raises(ModelError, match=r"no output of the graph is \[N, classes\]"):
        classes_of(rows("Relu", columns=1), "classification", has_labels=False)


def test_the_worst_of_all_outputs_decides(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    maps = generator.normal(0, 1, (3, 2, 8)).astype(np.float32)
    write({"a": SCORES, "b": maps}, tmp_path / "one.npz")
    write({"a": SCORES, "b": maps * 0.5}, tmp_path / "other.npz")
    found = compare(tmp_path / "one.npz", tmp_path / "other.npz", Measure(("a",)))
    assert found.lost == pytest.approx(0.25, abs=0.02)
    assert found.words == 'of the variance of "b"'
    assert found.sqnr == pytest.approx(20 * np.log10(2), abs=0.01)
    assert found.agreement is None


def test_agreement_is_told_where_all_outputs_are_classes(tmp_path: Path) -> None:
    changed = SCORES.copy()
    changed[:3] = np.roll(changed[:3], 1, axis=1)
    write({"a": SCORES}, tmp_path / "one.npz")
    write({"a": changed}, tmp_path / "other.npz")
    found = compare(tmp_path / "one.npz", tmp_path / "other.npz", Measure(("a",)))
    assert (found.agreement, found.lost) == (pytest.approx(17 / 20), pytest.approx(3 / 20))


def test_an_output_may_have_any_name(tmp_path: Path) -> None:
    write({"file": SCORES, "a/b": SCORES}, tmp_path / "one.npz")
    assert set(read(tmp_path / "one.npz")) == {"file", "a/b"}
