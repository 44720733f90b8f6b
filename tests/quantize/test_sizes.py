"""The memory that tensors take is told from shapes, and large ones are observed in parts."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgekd.quantize import observing
from edgekd.quantize.observing import observe, tensors_of
from edgekd.quantize.sizes import bytes_of, parts_of
from edgekd.quantize.wiring import Wiring
from tests.quantize.graphs import feed, images, two_layers


def test_sizes_are_those_of_the_tensors_that_a_run_makes() -> None:
    model = two_layers()
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_param = "side"
    assert bytes_of(model, ["x", "c", "r", "y"], {"x": np.zeros((2, 3, 10, 12), np.float32)}) == {
        "x": 4 * 2 * 3 * 120, "c": 4 * 2 * 6 * 120, "r": 4 * 2 * 6 * 120, "y": 4 * 2 * 4 * 120,
    }  # fmt: skip


def test_parts_hold_what_fits_and_at_least_one_tensor() -> None:
    assert parts_of({"a": 3, "b": 3, "c": 9, "d": 1, "e": 1}, 6) == [["a", "b"], ["c"], ["d", "e"]]
    assert parts_of({}, 6) == [[]]


def test_observing_in_parts_sees_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.shape_inference.infer_shapes(two_layers())
    tensors = tensors_of(Wiring(model))
    assert len(tensors) == 3
    shown: list[tuple[int, int]] = []
    whole = observe(model, tensors, feed(images(20)), "sample", lambda done, total: None)
    monkeypatch.setattr(observing, "_LARGE_INPUT", 0)
    monkeypatch.setattr(observing, "_PART_BYTES", 1)
    parts = observe(model, tensors, feed(images(20)), "sample", lambda done, total: shown.append((done, total)))
    assert (parts.images, parts.low, parts.high) == (whole.images, whole.low, whole.high)
    assert all(np.array_equal(parts.counts[name].counts, whole.counts[name].counts) for name in tensors)
    assert set(parts.patches) == set(whole.patches) == {"conv_c", "conv_y"}
    assert shown[-1] == (60, 60)
