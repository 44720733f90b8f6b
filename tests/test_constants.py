"""Which nodes compute only constants, and which no output needs."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper

from edgekd import constants
from tests.quantize.graphs import graph, node


def names(nodes: list) -> list[str]:  # type: ignore[type-arg]
    return [each.output[0] for each in nodes]


def branching() -> ModelProto:
    """Constants behind constants, data, randomness, another domain and an optional input that is left out."""
    nodes = [
        node("Reshape", ["w", "shape"], "w1"),
        node("Transpose", ["w1"], "w2"),
        node("Clip", ["w", "", "most"], "w3"),
        node("RandomNormalLike", ["w"], "r"),
        node("Add", ["r", "w"], "ra"),
        helper.make_node("Gelu", ["w"], ["theirs"], domain="com.microsoft"),
        node("Conv", ["x", "w2"], "c"),
        node("Shape", ["c"], "s"),
        node("Relu", ["c"], "y"),
    ]
    return graph(nodes, {"w": np.ones((3, 3, 1, 1)), "shape": np.array([3, 3, 1, 1]), "most": np.array(6.0)})


def test_only_what_has_nothing_but_constants_before_it_computes_constants() -> None:
    assert names(constants.computing(branching().graph)) == ["w1", "w2", "w3"]


def test_a_default_that_the_caller_may_replace_is_no_constant() -> None:
    model = branching()
    model.graph.input.append(helper.make_tensor_value_info("shape", TensorProto.INT64, [4]))
    assert names(constants.computing(model.graph)) == ["w3"]


def test_nodes_that_no_output_needs_go_and_so_do_their_constants() -> None:
    model = branching()
    constants.drop_unneeded(model.graph)
    assert names(list(model.graph.node)) == ["w1", "w2", "c", "y"]
    assert [value.name for value in model.graph.initializer] == ["w", "shape"]


def test_an_input_that_is_an_output_needs_no_node() -> None:
    model = branching()
    model.graph.output[0].name = "x"
    assert constants.needed(model.graph) == []
