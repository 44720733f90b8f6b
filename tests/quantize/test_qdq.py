"""The QDQ graph itself: what onnxruntime makes of it when it opens it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.shape_inference import infer_shapes

from edgekd.quantize import qdq
from edgekd.quantize.grid import of_activation
from edgekd.target import Int8
from tests.quantize.graphs import graph, node


@pytest.mark.parametrize("shape", [(8, 5), (3, 8, 5), (1, 3, 8, 5)])
def test_a_constant_that_is_multiplied_by_is_multiplied_in_integers(shape: tuple[int, ...], tmp_path: Path) -> None:
    """A matrix has a scale for each of its columns, a stack of matrices one for all: no kernel sums scales of rows."""
    weight = np.random.default_rng(0).standard_normal(shape)
    model = infer_shapes(graph([node("MatMul", ["x", "w"], "y")], {"w": weight}, made=None))
    grids = {"x": of_activation(-4, 4, Int8()), "y": of_activation(-30, 30, Int8())}
    quantized = qdq.quantized(model, grids, {}, Int8())
    scales = {value.name: list(value.dims) for value in quantized.graph.initializer}
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    session = ort.InferenceSession(quantized.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).clip(-4, 4).astype(np.float32)
    found = session.run(None, {"x": given})[0]
    assert scales["w_scale"] == ([5] if len(shape) == 2 else [])
    assert [each.op_type for each in onnx.load(tmp_path / "optimized.onnx").graph.node] == [
        "QuantizeLinear", "QLinearMatMul", "DequantizeLinear",
    ]  # fmt: skip
    # Half a step of 8/255 and half a weight's scale, in 8 products, and half a step of the output.
    assert np.abs(found - given @ weight).max() < 0.4
