"""Equalisation and absorption change ranges, and nothing that the network answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.quantize.equalisation import absorb_high_bias, equalise, pairs
from edgekd.quantize.wiring import Wiring
from tests.quantize.graphs import graph, images, node, run, two_layers, values_of


def spread(weight: np.ndarray, axis: int) -> float:
    """How many times the widest channel is wider than the narrowest."""
    ranges = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(1)
    return float(ranges.max() / ranges.min())


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["Relu", "LeakyRelu"]))
def test_the_function_stays_and_both_sides_come_to_equal_ranges(seed: int, between: str) -> None:
    model = two_layers(seed, between=between)
    before = run(model, images())
    assert equalise(model) == 1
    after = run(model, images())
    assert np.abs(after - before).max() < 1e-4 * np.abs(before).max()
    values = values_of(model)
    left = np.abs(values["w1"]).reshape(6, -1).max(1)
    right = np.abs(values["w2"]).swapaxes(0, 1).reshape(6, -1).max(1)
    assert np.allclose(left, right, rtol=1e-2)
    assert spread(two_values(seed)["w1"], 0) > spread(values["w1"], 0)


def two_values(seed: int) -> dict[str, np.ndarray]:
    return values_of(two_layers(seed))


def test_a_relu6_becomes_a_relu_and_only_what_it_clipped_changes() -> None:
    model = two_layers(between="Clip")
    small = images() * 0.05
    before = run(model, small)
    equalise(model)
    assert [each.op_type for each in model.graph.node] == ["Conv", "Relu", "Conv"]
    assert len(model.graph.node[1].input) == 1
    hidden = np.abs(run(model, small) - before).max() / np.abs(before).max()
    assert hidden < 1.0


def test_a_depthwise_layer_is_scaled_on_both_sides() -> None:
    generator = np.random.default_rng(0)
    wide = np.logspace(-1, 1, 6).reshape(-1, 1, 1, 1)
    values = {
        "w1": generator.standard_normal((6, 3, 1, 1)) * wide, "b1": generator.standard_normal(6),
        "w2": generator.standard_normal((6, 1, 3, 3)), "b2": generator.standard_normal(6),
        "w3": generator.standard_normal((4, 6, 1, 1)), "b3": generator.standard_normal(4),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w1", "b1"], "c1"),
        node("Relu", ["c1"], "r1"),
        node("Conv", ["r1", "w2", "b2"], "c2", group=6, pads=[1, 1, 1, 1]),
        node("Relu", ["c2"], "r2"),
        node("Conv", ["r2", "w3", "b3"], "y"),
    ]
    model = graph(nodes, values)
    before = run(model, images())
    assert equalise(model) == 2
    assert np.abs(run(model, images()) - before).max() < 1e-4 * np.abs(before).max()
    assert spread(values_of(model)["w1"], 0) < spread(values["w1"], 0) / 3


def test_what_two_nodes_read_or_the_caller_sees_is_no_pair() -> None:
    model = two_layers()
    model.graph.node.append(node("Relu", ["r"], "side"))
    assert pairs(Wiring(model)) == []


def test_a_channel_that_is_dead_keeps_its_weights() -> None:
    model = two_layers()
    wiring = Wiring(model)
    weight = values_of(model)["w1"].copy()
    weight[2] = 0
    wiring.set("w1", weight)
    before = run(model, images())
    equalise(model)
    assert np.isfinite(run(model, images())).all()
    assert np.allclose(run(model, images()), before, atol=1e-3)


@pytest.mark.parametrize("kernel", [1, 3])
def test_high_biases_move_on_where_no_padding_is_in_the_way(kernel: int) -> None:
    model = two_layers(kernel=kernel)
    Wiring(model).set("b1", np.full(6, 300.0))
    before = run(model, images())
    moved = absorb_high_bias(model, {"r": np.full(6, 10.0, np.float32)})
    assert moved == (1 if kernel == 1 else 0)
    assert np.allclose(run(model, images()), before, rtol=1e-3, atol=1e-2)
    assert values_of(model)["b1"].max() == (290.0 if kernel == 1 else 300.0)
