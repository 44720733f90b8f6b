"""A graph is settled without a change of what it computes."""

from __future__ import annotations

import numpy as np
from onnx import helper, numpy_helper

from edgekd.quantize.wiring import Wiring, bias_of, geometry, give_bias, groups, settle
from tests.quantize.graphs import graph, images, node, run, values_of


def with_norm(bias: bool) -> object:
    generator = np.random.default_rng(0)
    values = {
        "w": generator.standard_normal((4, 3, 3, 3)),
        "b": generator.standard_normal(4),
        "gamma": generator.uniform(0.5, 2, 4),
        "beta": generator.standard_normal(4),
        "mean": generator.standard_normal(4),
        "variance": generator.uniform(0.5, 2, 4),
    }
    nodes = [
        node("Conv", ["x", "w", "b"] if bias else ["x", "w"], "c", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "gamma", "beta", "mean", "variance"], "y", epsilon=1e-3),
    ]
    return graph(nodes, values)


def test_a_batchnorm_is_folded_into_the_convolution_before_it() -> None:
    for bias in (True, False):
        model = with_norm(bias)
        before = run(model, images())
        settle(model)
        assert [each.op_type for each in model.graph.node] == ["Conv"]
        assert np.allclose(run(model, images()), before, atol=1e-5)
        assert set(values_of(model)) == {"w", model.graph.node[0].input[2]}


def test_constants_become_initializers_and_every_node_gets_a_name_of_its_own() -> None:
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((4, 3, 1, 1)).astype(np.float32))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weight),
        helper.make_node("Conv", ["x", "w"], ["c"], name="Relu_2"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Relu", ["r"], ["y"]),
    ]
    model = graph(nodes, {})
    before = run(model, images())
    settle(model)
    assert [each.op_type for each in model.graph.node] == ["Conv", "Relu", "Relu"]
    assert len({each.name for each in model.graph.node}) == 3
    assert np.array_equal(run(model, images()), before)


def test_a_gemms_weight_is_turned_so_that_outputs_come_first() -> None:
    generator = np.random.default_rng(0)
    nodes = [node("Flatten", ["x"], "f"), node("Gemm", ["f", "w", "b"], "y")]
    values = {"w": generator.standard_normal((192, 5)), "b": generator.standard_normal(5)}
    model = graph(nodes, values, made=["N", 5])
    before = run(model, images())
    settle(model)
    wiring = Wiring(model)
    weight = wiring.weight(model.graph.node[1])
    assert weight is not None
    assert weight.shape == (5, 192)
    assert np.allclose(run(model, images()), before, atol=1e-5)


def test_a_bias_that_two_layers_share_becomes_each_layers_own() -> None:
    generator = np.random.default_rng(0)
    values = {name: generator.standard_normal((4, width, 1, 1)) for name, width in (("w1", 3), ("w2", 4))}
    model = graph(
        [node("Conv", ["x", "w1", "b"], "c"), node("Conv", ["c", "w2", "b"], "y")], values | {"b": np.ones(4)}
    )
    wiring = Wiring(model)
    first, second = model.graph.node
    give_bias(wiring, first, bias_of(wiring, first) * 2)
    assert bias_of(wiring, first).tolist() == [2.0] * 4
    assert bias_of(wiring, second).tolist() == [1.0] * 4


def test_geometry_takes_onnx_defaults_where_attributes_are_missing() -> None:
    weight = np.zeros((4, 1, 3, 5), np.float32)
    conv = node("Conv", ["x", "w"], "y", group=4)
    shape = geometry(conv, weight)
    assert (shape.kernel, shape.strides, shape.dilations, shape.pads) == ((3, 5), (1, 1), (1, 1), (0, 0, 0, 0))
    assert groups(conv) == 4
    assert shape.positions((2, 4, 8, 8)) == (6, 4)


def test_a_weight_that_two_nodes_read_is_no_layers_own() -> None:
    model = graph([node("Conv", ["x", "w"], "c"), node("Conv", ["c", "w"], "y")], {"w": np.ones((3, 3, 1, 1))})
    assert Wiring(model).weight(model.graph.node[0]) is None
