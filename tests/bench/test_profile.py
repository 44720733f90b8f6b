"""Time by operator, as onnxruntime's profiler sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekd.bench.profile import shares
from edgekd.errors import ModelError
from edgekd.runtime import Settings
from tests.quantize.graphs import graph, node, two_layers


def test_the_parts_sum_to_one_and_name_what_runs(tmp_path: Path) -> None:
    onnx.save(two_layers(between="LeakyRelu"), tmp_path / "net.onnx")
    found = shares(tmp_path / "net.onnx", Settings())
    assert sum(found.values()) == pytest.approx(1.0)
    assert any("Conv" in name for name in found)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"], "no profile is left behind"


def test_an_open_size_is_fed_or_refused(tmp_path: Path) -> None:
    values = {"w": np.ones((4, 3, 3, 3)), "b": np.zeros(4)}
    onnx.save(graph([node("Conv", ["x", "w", "b"], "y")], values, ["N", 3, "H", "W"], None), tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"the input x of net.onnx is \[N, 3, H, W\]"):
        shares(tmp_path / "net.onnx", Settings())
    found = shares(tmp_path / "net.onnx", Settings(), {"x": np.zeros((1, 3, 9, 7), np.float32)})
    assert sum(found.values()) == pytest.approx(1.0)
