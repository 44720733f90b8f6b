"""Single layers as graphs: right, alone, and measured at each width."""

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper

from edgekd import operators, runtime
from edgekd.bench.layers import Conditions, graph_of, measure
from edgekd.latency import Layer
from edgekd.runtime import Settings

CONV = Layer(kind="conv", inputs=8, outputs=16, kernel=(3, 3), stride=(2, 2), padding=(1, 1), size=(10, 12))
DEEP = Layer(kind="depthwise", inputs=8, outputs=8, kernel=(3, 3), padding=(1, 1), size=(6, 6))
LINEAR = Layer(kind="linear", inputs=8, outputs=4)


def conditions(precision: Literal["int8", "fp16", "float"] = "int8") -> Conditions:
    return Conditions(Settings(), precision, block=4)


def opened(layer: Layer, folder: Path, precision: Literal["int8", "fp16", "float"]) -> tuple[onnx.ModelProto, Path]:
    model = graph_of(layer.inputs, layer.outputs, layer, conditions(precision))
    onnx.checker.check_model(model, full_check=True)
    file = folder / "layer.onnx"
    onnx.save(model, file)
    return model, file


@pytest.mark.parametrize(("layer", "operator"), [(CONV, "QLinearConv"), (DEEP, "QLinearConv"), (LINEAR, "QGemm")])
def test_an_int8_layer_runs_as_one_integer_operator(layer: Layer, operator: str, tmp_path: Path) -> None:
    _, file = opened(layer, tmp_path, "int8")
    assert operators.that_run(file, Settings()).counts == {operator: 1}


def test_a_layer_computes_what_torch_does(tmp_path: Path) -> None:
    model, file = opened(CONV, tmp_path, "float")
    weight = next(numpy_helper.to_array(value) for value in model.graph.initializer if value.name == "w")
    image = np.random.default_rng(1).standard_normal((1, 10, 12, 8)).astype(np.float32)
    found = runtime.open_session(file, Settings()).run(None, {"x": image})[0]
    wanted = F.conv2d(torch.from_numpy(image).permute(0, 3, 1, 2), torch.from_numpy(weight.copy()), stride=2, padding=1)
    assert found.shape == (1, 5, 6, 16)
    assert np.allclose(found, wanted.relu().permute(0, 2, 3, 1).numpy(), atol=1e-4)


def test_equal_shapes_are_measured_once_and_every_width_has_a_time() -> None:
    table = measure({"a": CONV, "b": DEEP, "c": CONV, "d": LINEAR}, conditions())
    assert table.layers == {"a": 0, "b": 1, "c": 0, "d": 2}
    conv, deep, linear = table.grids
    assert (conv.inputs, conv.outputs) == ((4, 8), (4, 8, 12, 16))
    assert np.array(conv.microseconds).shape == (2, 4)
    assert (deep.outputs, np.array(deep.microseconds).shape) == ((4, 8), (1, 2))
    assert (linear.inputs, linear.outputs) == ((4, 8), (4,))
    assert conv.microseconds[1][3] > 0


def test_more_work_takes_longer() -> None:
    """Sixteen times the channels, 256 times the work: no noise hides that."""
    wide = Layer(kind="conv", inputs=64, outputs=64, kernel=(3, 3), padding=(1, 1), size=(16, 16))
    grid = measure({"a": wide}, conditions()).grids[0]
    assert grid.at(64, 64) > 3 * grid.at(4, 4)


def test_a_convolution_in_groups_is_measured_with_fewer_groups() -> None:
    grouped = Layer(kind="conv", inputs=8, outputs=16, groups=4, kernel=(1, 1), size=(4, 4))
    grid = measure({"a": grouped}, conditions("float")).grids[0]
    assert (grid.inputs, grid.outputs) == ((8,), (4, 8, 12, 16))
    assert len(grid.microseconds[0]) == 4
