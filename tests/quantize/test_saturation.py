"""Saturated sums, against a naive loop."""

from __future__ import annotations

import numpy as np

from edgekd.quantize.grid import Grid, of_activation
from edgekd.quantize.saturation import clipped_pairs, count
from edgekd.target import Int8
from tests.quantize.graphs import feed, graph, images, node


def naive(weights: np.ndarray, inputs: np.ndarray) -> tuple[int, int]:
    sums = clipped = 0
    for output in range(weights.shape[0]):
        for pair in range(weights.shape[1]):
            for at in range(inputs.shape[2]):
                total = int(weights[output, pair, 0]) * int(inputs[pair, 0, at])
                total += int(weights[output, pair, 1]) * int(inputs[pair, 1, at])
                sums += 1
                clipped += not -32768 <= total <= 32767
    return sums, clipped


def test_pairs_are_counted_as_a_loop_would() -> None:
    generator = np.random.default_rng(0)
    weights = generator.integers(-127, 128, (5, 6, 2)).astype(float)
    inputs = generator.integers(0, 256, (6, 2, 20)).astype(float)
    found = clipped_pairs(weights, inputs)
    assert found == naive(weights, inputs)
    assert found[1] > 0


def saturating(policy: Int8, grid: Grid) -> tuple[int, int, tuple[str, ...]]:
    """All weights and all pixels as large as they can be, an odd number of channels."""
    model = graph([node("Conv", ["x", "w"], "y")], {"w": np.ones((4, 3, 1, 1))})
    found = count(model, feed(np.full((2, 3, 8, 8), 2.55, np.float32)), {"x": grid}, {}, policy, frozenset())
    return found.sums, found.clipped, found.layers


def test_full_weights_saturate_and_seven_bit_ones_never_do() -> None:
    grid = of_activation(0.0, 2.55, Int8())
    # 4 outputs, 2 pairs (the third channel beside a zero), 2 images of 32 positions; of the pairs one is clipped.
    assert saturating(Int8(), grid) == (4 * 2 * 64, 4 * 64, ("conv_y",))
    assert saturating(Int8(reduce_range=True), grid) == (4 * 2 * 64, 0, ())


def test_signed_activations_are_multiplied_by_other_instructions() -> None:
    policy = Int8(activations="int8")
    assert saturating(policy, of_activation(-1, 2.55, policy)) == (0, 0, ())


def test_what_stays_in_float_is_not_counted() -> None:
    model = graph([node("Conv", ["x", "w"], "y")], {"w": np.ones((4, 3, 1, 1))})
    grids = {"x": of_activation(0.0, 2.55, Int8())}
    assert count(model, feed(images(2)), grids, {}, Int8(), frozenset({"conv_y"})).sums == 0
