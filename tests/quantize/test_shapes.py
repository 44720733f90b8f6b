"""Declared shapes that are stale are inferred anew; what only the file knows stays."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from edgekd.quantize import shapes
from tests.quantize.graphs import graph, node


def layered(made: list[int | str] | None) -> ModelProto:
    nodes = [node("Flatten", ["x"], "f"), node("Gemm", ["f", "w"], "g"), node("Relu", ["g"], "y")]
    return graph(nodes, {"w": np.ones((192, 5))}, made=made)


def sides(value: ValueInfoProto) -> list[int | str]:
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in dims]


def infos(model: ModelProto) -> dict[str, list[int | str]]:
    return {value.name: sides(value) for value in model.graph.value_info}


def test_a_stale_shape_is_inferred_anew() -> None:
    """onnx itself keeps it, and raises where a strict check meets it."""
    model = layered(["N", 5])
    model.graph.value_info.append(helper.make_tensor_value_info("g", TensorProto.FLOAT, ["N", 7]))
    with pytest.raises(onnx.shape_inference.InferenceError):
        onnx.shape_inference.infer_shapes(model, strict_mode=True)
    shapes.infer(model)
    assert infos(model) == {"f": ["N", 192], "g": ["N", 5]}
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        (["N", 7], ["N", 5]),
        (["N"], ["N", 5]),
        ([3, 4, 5], ["N", 5]),
        (None, ["N", 5]),
        (["batch", "classes"], ["batch", "classes"]),
        ([1, 5], [1, 5]),
    ],
)
def test_an_output_keeps_its_shape_unless_that_is_wrong(
    declared: list[int | str] | None, found: list[int | str]
) -> None:
    model = layered(declared)
    shapes.infer(model)
    assert sides(model.graph.output[0]) == found
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize(("name", "found"), [("x", ["N", 3, 8, 8]), ("w", [192, 5])])
def test_an_output_that_is_an_input_or_a_constant_has_its_shape_and_hides_none(
    name: str, found: list[int | str]
) -> None:
    model = layered([4, 3, 3, 3])
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [7]))
    shapes.infer(model)
    assert infos(model) == {"f": ["N", 192], "g": ["N", 5]}
    assert [sides(value) for value in model.graph.output] == [["N", 5], found]
    onnx.checker.check_model(model, full_check=True)


def test_what_an_operator_of_another_domain_makes_keeps_its_declared_shape() -> None:
    nodes = [helper.make_node("Gelu", ["x"], ["g"], domain="com.microsoft"), node("Relu", ["g"], "r")]
    model = graph([*nodes, node("Relu", ["r"], "y")], {}, made=None)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.value_info.append(helper.make_tensor_value_info("g", TensorProto.FLOAT, ["N", 3, 8, 8]))
    shapes.infer(model)
    assert infos(model) == {"g": ["N", 3, 8, 8], "r": ["N", 3, 8, 8]}
    assert sides(model.graph.output[0]) == ["N", 3, 8, 8]


def test_a_rank_is_known_of_inputs_outputs_and_what_is_between_them() -> None:
    model = layered(["N", 5])
    assert shapes.rank(model.graph, "g") is None
    shapes.infer(model)
    assert [shapes.rank(model.graph, name) for name in ("x", "g", "y", "nothing")] == [4, 2, 2, None]
