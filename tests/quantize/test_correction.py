"""Bias correction takes out the mean error of rounding, exactly in what it models."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.quantize.correction import correct_biases
from edgekd.quantize.grid import rounded_weight, weight_levels, weight_scales
from edgekd.quantize.observing import observe
from edgekd.quantize.wiring import Wiring
from edgekd.target import Int8
from tests.quantize.graphs import feed, graph, images, node, run, values_of

POLICY = Int8(per_channel=False)


@pytest.mark.parametrize("groups", [1, 3])
def test_the_mean_of_each_channel_comes_back(groups: int) -> None:
    """The weights are rounded and the inputs are not: then only the bias stands between the two means."""
    generator = np.random.default_rng(0)
    values = {"w": generator.standard_normal((6, 3 // groups, 3, 3)) ** 3, "b": generator.standard_normal(6)}
    conv = node("Conv", ["x", "w", "b"], "y", pads=[1, 1, 1, 1], group=groups)
    model = graph([conv], values, made=["N", 6, 8, 8])
    given = images(30) + 1.5
    exact = run(model, given).mean((0, 2, 3))
    seen = observe(model, ["x", "y"], feed(given), "none", lambda done, total: None)
    weight = values_of(model)["w"]
    on_grid = rounded_weight(weight, weight_scales(weight, POLICY), POLICY)

    def mean_when_rounded() -> np.ndarray:
        tried = graph([conv], {**values_of(model), "w": on_grid}, made=["N", 6, 8, 8])
        return np.asarray(run(tried, given).mean((0, 2, 3)))

    before = np.abs(mean_when_rounded() - exact).max()
    assert correct_biases(model, seen.patches, POLICY, frozenset(), {}, {}) == 1
    assert np.abs(mean_when_rounded() - exact).max() < 1e-4 < before


def test_a_node_that_stays_in_float_keeps_its_bias() -> None:
    model = graph([node("Conv", ["x", "w", "b"], "y")], {"w": np.ones((4, 3, 1, 1)) / 3, "b": np.zeros(4)})
    patches = {"conv_y": np.ones((3, 1, 1))}
    assert correct_biases(model, patches, POLICY, frozenset({"conv_y"}), {}, {}) == 0
    assert Wiring(model).constant("b").tolist() == [0.0] * 4  # type: ignore[union-attr]


def test_rounded_weights_lie_on_their_grid() -> None:
    weight = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    scale = weight_scales(weight, Int8())
    steps = rounded_weight(weight, scale, Int8()) / scale[:, None]
    assert np.allclose(steps, np.rint(steps), atol=1e-6)
    assert np.abs(steps).max() <= weight_levels(Int8())[1]
