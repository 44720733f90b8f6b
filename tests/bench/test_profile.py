"""Time by operator, as onnxruntime's profiler sees it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgekd.bench.profile import shares
from edgekd.runtime import Settings
from tests.quantize.graphs import two_layers


def test_the_parts_sum_to_one_and_name_what_runs(tmp_path: Path) -> None:
    onnx.save(two_layers(between="LeakyRelu"), tmp_path / "net.onnx")
    found = shares(tmp_path / "net.onnx", Settings())
    assert sum(found.values()) == pytest.approx(1.0)
    assert any("Conv" in name for name in found)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"], "no profile is left behind"
