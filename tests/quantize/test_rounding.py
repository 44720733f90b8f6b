"""Learned rounding: on the grid, better than nearest for the layer's output, and taken by onnxruntime as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from edgekd.quantize import qdq
from edgekd.quantize.grid import of_activation, rounded_weight, weight_levels, weight_scales
from edgekd.quantize.rounding import Moments, learn, optq, patches
from edgekd.target import Int8
from tests.quantize.graphs import feed, graph, images, node, run, two_layers, values_of

POLICY = Int8(reduce_range=True)


def layer(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A weight [8, 12], and inputs [12, 300] that hang together."""
    generator = np.random.default_rng(seed)
    mix = generator.standard_normal((12, 4))
    inputs = mix @ generator.standard_normal((4, 300)) + 0.1 * generator.standard_normal((12, 300))
    return generator.standard_normal((8, 12)).astype(np.float32), inputs


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_outputs_error_is_never_larger_than_by_rounding_to_nearest(seed: int) -> None:
    weight, inputs = layer(seed)
    scale = weight_scales(weight, POLICY)
    moments = Moments((inputs @ inputs.T)[None], np.zeros((1, 12, 12)))
    learned = optq(weight, scale, moments, 1, POLICY)
    nearest = rounded_weight(weight, scale, POLICY)
    errors = [(((each - weight) @ inputs) ** 2).sum() for each in (learned, nearest)]
    damping = 0.01 * (inputs**2).sum() / 12 * ((nearest - weight) ** 2).sum()
    assert errors[0] <= errors[1] + damping
    steps = learned / scale[:, None]
    assert np.allclose(steps, np.rint(steps), atol=1e-4)
    assert np.abs(np.rint(steps)).max() <= weight_levels(POLICY)[1]


def test_inputs_that_hang_together_leave_much_to_gain() -> None:
    weight, inputs = layer(0)
    scale = weight_scales(weight, POLICY)
    learned = optq(weight, scale, Moments((inputs @ inputs.T)[None], np.zeros((1, 12, 12))), 1, POLICY)
    errors = [(((each - weight) @ inputs) ** 2).sum() for each in (learned, rounded_weight(weight, scale, POLICY))]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("groups", [1, 3])
def test_patches_are_what_lies_under_the_weight(groups: int) -> None:
    """Weight times patches is the convolution's output, at every position where there are few."""
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((6, 3 // groups, 3, 3)).astype(np.float32)
    conv = node("Conv", ["x", "w"], "y", group=groups, strides=[2, 2], pads=[1, 1, 1, 1])
    given_ = images(4)
    expected = run(graph([conv], {"w": weight}, made=["N", 6, 4, 4]), given_)
    rows = patches(given_, conv, weight)
    found = weight.reshape(groups, 6 // groups, -1) @ rows
    assert np.allclose(found.reshape(6, 4, 16).swapaxes(0, 1).reshape(4, 6, 4, 4), expected, atol=1e-4)


def test_patches_without_padding_are_numpys_windows() -> None:
    given_ = images(1, channels=1, side=5)
    conv = node("Conv", ["x", "w"], "y")
    rows = patches(given_, conv, np.zeros((1, 1, 3, 3), np.float32))[0]
    windows = sliding_window_view(given_[0, 0], (3, 3)).reshape(9, 9).T
    assert np.array_equal(rows, windows)


def test_onnxruntime_rounds_learned_weights_to_the_same_integers() -> None:
    model = two_layers()
    given_ = images(60)
    grids = {"x": of_activation(-4, 4, POLICY), "r": of_activation(0, 30, POLICY), "y": of_activation(-20, 20, POLICY)}
    learned = learn(model, feed(given_), grids, POLICY, frozenset(), lambda done, total: None)
    assert set(learned.weights) == {"w1", "w2"}
    changed = graph(model.graph.node, {**values_of(model), **learned.weights})
    from onnx.shape_inference import infer_shapes

    quantized = qdq.quantized(infer_shapes(changed), grids, learned.scales, POLICY)
    found = values_of(quantized)
    for name, weight in learned.weights.items():
        column = learned.scales[name].reshape(-1, 1, 1, 1)
        assert np.array_equal(found[f"{name}_quantized"], np.rint(weight / column).astype(np.int8))
        assert np.allclose(found[f"{name}_scale"], learned.scales[name])
    assert (learned.weights["w2"] != rounded_weight(values_of(model)["w2"], learned.scales["w2"], POLICY)).any()
