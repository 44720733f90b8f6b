"""From what was observed to the range of each tensor."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.quantize.calibrate import range_of
from edgekd.quantize.observing import observe
from edgekd.recipe import Quantize
from edgekd.target import Int8
from tests.quantize.graphs import feed, images, two_layers


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(-100, 100), st.floats(1e-3, 1e3), st.integers(1, 40))
def test_percentile_100_is_minimum_and_maximum_to_the_last_bit(
    seed: int, centre: float, width: float, count: int
) -> None:
    values = np.float32(width) * images(count, seed=seed) + np.float32(centre)
    seen = observe(two_layers(), ["x", "r", "y"], feed(values), "all", lambda *_: None)
    config = Quantize(calibrator="percentile", percentile=100)
    assert range_of(seen, "x", Int8(), config) == (values.min(), values.max())
    for name in ("x", "r", "y"):
        assert range_of(seen, name, Int8(), config) == range_of(seen, name, Int8(), Quantize(calibrator="min-max"))
