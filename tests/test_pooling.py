"""A mean over height and width becomes a GlobalAveragePool; no other mean does."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgekd.pooling import pool_globally
from tests.means import X, mean_graph, run


def operators(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [-1, -2]])
@pytest.mark.parametrize("keepdims", [None, 0, 1])
def test_global_pool_gives_what_the_mean_gave(axes: list[int], keepdims: int | None, opset: int) -> None:
    model = mean_graph(axes, keepdims, opset)
    before = run(model)
    assert pool_globally(model) == 1
    onnx.checker.check_model(model, full_check=True)
    after = run(model)
    assert operators(model)[0] == "GlobalAveragePool"
    assert "ReduceMean" not in operators(model)
    assert after.shape == before.shape == ((3, 5) if keepdims == 0 else (3, 5, 1, 1))
    wanted = 2 * X.astype(np.float64).mean((2, 3)).reshape(before.shape)
    assert np.abs(after - wanted).max() < 1e-6


@pytest.mark.parametrize("axes", [[1, 2], [2], [1, 2, 3]])
def test_other_means_stay(axes: list[int]) -> None:
    model = mean_graph(axes, 1)
    before = model.SerializeToString(deterministic=True)
    assert pool_globally(model) == 0
    assert model.SerializeToString(deterministic=True) == before


def test_axes_that_nobody_reads_any_more_go() -> None:
    model = mean_graph([2, 3], 0)
    pool_globally(model)
    assert [value.name for value in model.graph.initializer] == ["two"]


def test_a_mean_over_two_axes_of_three_stays() -> None:
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)],
        "mean",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
        [numpy_helper.from_array(np.array([-1, -2]), "axes")],
    )
    assert pool_globally(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])) == 0


def test_what_a_mean_stood_for_its_nodes_stand_for_too() -> None:
    model = mean_graph([2, 3], 0)
    mean = next(node for node in model.graph.node if node.op_type == "ReduceMean")
    mean.metadata_props.add(key="edgekd.names", value="theirs")
    pool_globally(model)
    made = {node.op_type: node.metadata_props for node in model.graph.node}
    assert [made[kind][0].value for kind in ("GlobalAveragePool", "Flatten")] == ["theirs", "theirs"]
