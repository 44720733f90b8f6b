"""Integers all the way, or not: told from the operators that run and the types of what they read and give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgekd.operators import Ran, that_run
from edgekd.runtime import Settings

CLOSED = {"DequantizeLinear": 1, "QGemm": 1, "QLinearConv": 5, "QLinearGlobalAveragePool": 1, "Transpose": 1}
CONSTANTS = {"s": np.float32(0.02), "z": np.uint8(7), "s2": np.float32(1 / 256), "z2": np.uint8(0)}
CONSTANTS |= {"sides": np.array([1, 4, 16, 16], np.int64)}


def test_one_conversion_at_the_end_is_closed() -> None:
    assert Ran(CLOSED, {}).is_closed_integer


@pytest.mark.parametrize(
    ("more", "in_float"),
    [
        ({"Conv": 1}, {"Conv": 1}),
        ({"QuantizeLinear": 1}, {}),
        ({"DequantizeLinear": 2}, {}),
        ({"DequantizeLinear": 0}, {}),
    ],
)
def test_a_float_operator_or_another_conversion_opens_it(more: dict[str, int], in_float: dict[str, int]) -> None:
    assert not Ran({**CLOSED, **more}, in_float).is_closed_integer


def model_of(nodes: list[NodeProto], kind: int, shape: list[int | str]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def between_conversions(kind: str, **attributes: Any) -> ModelProto:
    """x uint8 -> DequantizeLinear -> the operator -> QuantizeLinear -> y, twice the same input for a Concat."""
    # A sigmoid and a softmax have kernels for outputs of 1/256 alone.
    ends = ["s2", "z2"] if kind in {"Sigmoid", "Softmax"} else ["s", "z"]
    if kind == "Concat":
        more = helper.make_node("DequantizeLinear", ["x", "s2", "z2"], ["g"])
        nodes, inputs = [more], ["f", "g"]
    else:
        nodes, inputs = [], ["f", "", "sides"][: 1 if kind != "Resize" else 3]
    if kind == "Resize":
        inputs = ["f", "", "", "sides"]
    nodes += [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["f"]),
        helper.make_node(kind, inputs, ["r"], **attributes),
        helper.make_node("QuantizeLinear", ["r", *ends], ["y"]),
    ]
    return model_of(nodes, TensorProto.UINT8, [1, 4, 8, 8])


@pytest.mark.parametrize(
    ("kind", "attributes", "kernel"),
    [
        ("Sigmoid", {}, "QLinearSigmoid"),
        ("Softmax", {"axis": 1}, "QLinearSoftmax"),
        ("LeakyRelu", {"alpha": 0.1}, "QLinearLeakyRelu"),
        ("Concat", {"axis": 1}, "QLinearConcat"),
        ("AveragePool", {"kernel_shape": [2, 2]}, "QLinearAveragePool"),
        ("GlobalAveragePool", {}, "QLinearGlobalAveragePool"),
        ("MaxPool", {"kernel_shape": [2, 2]}, "MaxPool"),
        ("Resize", {"mode": "nearest"}, "Resize"),
    ],
)
def test_an_integer_kernel_is_not_in_float(tmp_path: Path, kind: str, attributes: dict[str, Any], kernel: str) -> None:
    onnx.save(between_conversions(kind, **attributes), tmp_path / "m.onnx")
    ran = that_run(tmp_path / "m.onnx", Settings())
    assert kernel in ran.counts
    assert ran.in_float == {}


@pytest.mark.parametrize(
    ("kind", "attributes"), [("Sigmoid", {}), ("Softmax", {"axis": 1}), ("MaxPool", {"kernel_shape": [2, 2]})]
)
def test_the_same_operator_on_floats_is_in_float(tmp_path: Path, kind: str, attributes: dict[str, Any]) -> None:
    onnx.save(
        model_of([helper.make_node(kind, ["x"], ["y"], **attributes)], TensorProto.FLOAT, [1, 4, 8, 8]),
        tmp_path / "m.onnx",
    )
    assert that_run(tmp_path / "m.onnx", Settings()).in_float == {kind: 1}


def test_arithmetic_on_shapes_is_not_in_float(tmp_path: Path) -> None:
    """An open axis leaves Shape and Mul of integers in the optimised graph; of the Adds only that of floats counts."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Mul", ["shape", "shape"], ["squared"]),
        helper.make_node("Expand", ["f", "squared"], ["y"]),
        helper.make_node("Add", ["x", "x"], ["f"]),
    ]
    nodes[2], nodes[3] = nodes[3], nodes[2]
    onnx.save(model_of(nodes, TensorProto.FLOAT, [1, "N"]), tmp_path / "m.onnx")
    ran = that_run(tmp_path / "m.onnx", Settings())
    assert ran.counts["Mul"] == ran.counts["Shape"] == 1
    assert ran.in_float == {"Add": 1}


def test_a_pool_between_integer_convolutions_is_an_integer_kernel(tmp_path: Path) -> None:
    """onnxruntime writes no types between the nodes: they follow from the zero points."""
    generator = np.random.default_rng(0)
    weights = {"w": generator.integers(-60, 60, (16, 16, 3, 3), np.int8), "wz": np.int8(0)}
    nodes = [helper.make_node("DequantizeLinear", ["x", "s", "z"], ["f0"])]
    for number in range(2):
        nodes += [
            helper.make_node("DequantizeLinear", ["w", "s", "wz"], [f"wf{number}"]),
            helper.make_node("Conv", [f"f{number}", f"wf{number}"], [f"c{number}"]),
            helper.make_node("QuantizeLinear", [f"c{number}", "s", "z"], [f"q{number}"]),
            helper.make_node("DequantizeLinear", [f"q{number}", "s", "z"], [f"d{number}"]),
            helper.make_node("MaxPool", [f"d{number}"], [f"p{number}"], kernel_shape=[2, 2]),
            helper.make_node("QuantizeLinear", [f"p{number}", "s", "z"], [f"y{number}"]),
            helper.make_node("DequantizeLinear", [f"y{number}", "s", "z"], [f"f{number + 1}"]),
        ]
    nodes = nodes[:-1]
    nodes[-1].output[0] = "y"
    model = model_of(nodes, TensorProto.UINT8, [1, 16, 16, 16])
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items())
    onnx.save(model, tmp_path / "m.onnx")
    ran = that_run(tmp_path / "m.onnx", Settings())
    assert ran.counts["QLinearConv"] == ran.counts["NhwcMaxPool"] == 2
    assert ran.in_float == {}
