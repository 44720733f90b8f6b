"""Bins that double their width hold what numpy would count with the range known beforehand."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.quantize.histogram import BINS, Counts, Histogram


def counted(*batches: np.ndarray) -> Counts:
    histogram = Histogram()
    for batch in batches:
        values = batch.astype(np.float32)
        histogram.add(values, float(values.min()), float(values.max()))
    return histogram.counts()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.001, 100)), min_size=1, max_size=6), st.integers(0, 99))
def test_every_value_is_counted_where_numpy_counts_it(parts: list[tuple[float, float]], seed: int) -> None:
    generator = np.random.default_rng(seed)
    batches = [generator.normal(centre, width, 500).astype(np.float32) for centre, width in parts]
    everything = np.concatenate(batches).astype(np.float64)
    found = counted(*batches)
    assert found.counts.sum() == everything.size
    assert found.low <= everything.min() + 1e-3
    assert found.high >= everything.max() - 1e-3
    theirs, _ = np.histogram(everything, len(found.counts), (found.low, found.high))
    # float32 tells a value from an edge to some ten-thousandths of a bin, and a narrow bell may sit on an edge.
    assert np.abs(np.cumsum(found.counts) - np.cumsum(theirs)).max() <= 25


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_between_half_and_all_of_the_bins_are_used(seed: int) -> None:
    generator = np.random.default_rng(seed)
    found = counted(*(generator.uniform(-size, size, 20000) for size in (1, 5, 300)))
    assert BINS // 2 < len(found.counts) <= 2 * BINS


def test_one_value_is_one_bin() -> None:
    found = counted(np.full(15, 2.0), np.full(5, 2.0))
    assert found.counts.tolist() == [20]
    assert found.low <= 2.0 <= found.high


def test_zeros_alone_are_one_bin() -> None:
    found = counted(np.zeros(7))
    assert (found.counts.tolist(), found.low) == ([7], 0.0)


def test_a_narrow_range_far_from_zero_keeps_its_bins() -> None:
    values = np.linspace(100, 100.01, 1025, dtype=np.float32)
    found = counted(values)
    theirs, _ = np.histogram(values.astype(np.float64), len(found.counts), (found.low, found.high))
    assert len(found.counts) > 50
    assert np.abs(np.cumsum(found.counts) - np.cumsum(theirs)).max() <= 32
    assert found.counts.sum() == 1025


def test_nothing_counted_is_an_empty_bin() -> None:
    assert Histogram().counts().counts.tolist() == [0]
