"""Ranges against independent references: onnxruntime's percentile, a naive divergence in float64, a search by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization.calibrate import HistogramCollector

from edgekd.quantize import ranges
from edgekd.quantize.grid import Grid, of_activation
from edgekd.target import Int8

BINS = 512


def histogram(values: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, float, float]:
    low, high = float(values.min()), float(values.max())
    return np.histogram(values, bins, (low, high))[0].astype(np.int64), low, high


def relu_like(seed: int = 0) -> np.ndarray:
    """Half zero, a bell, and one outlier far out."""
    values = np.maximum(np.random.default_rng(seed).standard_normal(20000), 0)
    values[0] = 20.0
    return values


def of(policy: Int8) -> Callable[[float, float], Grid]:
    return lambda low, high: of_activation(low, high, policy)


@pytest.mark.parametrize("percent", [99.0, 99.9, 99.99])
def test_percentile_is_onnxruntimes_to_the_width_of_a_bin(percent: float) -> None:
    values = np.random.default_rng(0).standard_normal(50000).astype(np.float32)
    counts, low, high = histogram(values)
    edges = np.linspace(low, high, BINS + 1)
    collector = HistogramCollector("percentile", False, BINS, 128, percent, "same")
    collector.histogram_dict = {"t": (counts, edges, low, high)}
    theirs = collector.compute_percentile()["t"]
    ours = ranges.percentile(counts, low, high, percent)
    width = (high - low) / BINS
    assert abs(ours[0] - float(theirs[0])) <= width
    assert abs(ours[1] - float(theirs[1])) <= width
    inside = ((values >= ours[0] - width) & (values <= ours[1] + width)).mean()
    assert inside >= percent / 100


COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any)


@given(COUNTS, st.floats(50, 100, exclude_min=True), st.floats(-10, 10), st.floats(0.01, 10))
def test_percentile_holds_as_many_as_it_says_and_no_bin_more(
    given_counts: list[int], percent: float, low: float, width: float
) -> None:
    """By a sum over the bins, of the range and of one a bin narrower at either end; 100 is minimum to maximum."""
    counts = np.array(given_counts, np.int64)
    high = low + width * len(counts)
    found = ranges.percentile(counts, low, high, percent)
    start, stop = (round((end - low) / width) for end in found)
    cut = counts.sum() * (1 - percent / 100) / 2 * (1 + 1e-9)
    assert max(counts[:start].sum(), counts[stop:].sum()) <= cut
    assert min(counts[: start + 1].sum(), counts[stop - 1 :].sum()) > cut * (1 - 2e-9)
    filled = np.flatnonzero(counts)
    whole = ranges.percentile(counts, low, high, 100)
    step = (high - low) / len(counts)
    assert whole == (pytest.approx(low + filled[0] * step), pytest.approx(low + (filled[-1] + 1) * step))
    if counts[0] and counts[-1]:
        assert whole == (low, high)


def nvidias_divergence(bins: list[int], size: int, levels: int) -> float:
    """Migacz's divergence of magnitudes from 0 up when the first `size` bins are kept, as NVIDIA's tools compute it.

    The first bin takes its neighbour's count; then bin by bin, in float64. Where the last bin holds outliers only,
    of which Q knows nothing, a tiny share stands for it.
    """
    bins = [bins[1], *bins[1:]]
    p = [float(count) for count in bins[:size]]
    p[-1] += float(sum(bins[size:]))
    level = np.digitize(range(size), np.linspace(0, size, levels + 1)) - 1
    filled: dict[int, list[int]] = {}
    for at in range(size):
        if bins[at]:
            filled.setdefault(int(level[at]), []).append(at)
    q = [0.0] * size
    for mine in filled.values():
        for at in mine:
            q[at] = sum(float(bins[each]) for each in mine) / len(mine)
    total_p, total_q = sum(p), sum(q)
    return sum(a / total_p * np.log((a / total_p) / max(b / total_q, 1e-12)) for a, b in zip(p, q, strict=True) if a)


@pytest.mark.parametrize(
    ("policy", "levels"), [(Int8(), 256), (Int8(symmetric=True), 128)], ids=["asymmetric", "symmetric"]
)
def test_entropy_of_a_relus_output_is_the_smallest_of_nvidias_divergences(policy: Int8, levels: int) -> None:
    """All 256 levels are above zero, or 128 where the grid is symmetric; the zeros do not count."""
    counts, _, high = histogram(relu_like(), 2048)
    found = ranges.entropy(counts, 0.0, high, of(policy))
    width = high / 2048
    cuts = {round(high * part / width) for part in np.linspace(1, 1 / 128, 128)}
    by_hand = {cut: nvidias_divergence(counts.tolist(), cut, levels) for cut in cuts if cut >= levels}
    best = min(by_hand, key=lambda cut: (by_hand[cut], -cut))
    assert found == (0.0, pytest.approx(best * width))
    assert best < 1024, "the one outlier must not decide"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**9), st.sampled_from(["above", "below", "both", "mostly above"]))
def test_entropy_does_not_care_how_many_values_are_zero(seed: int, zeros: int, side: str) -> None:
    """Of tensors on either side of zero and on both: zero stays zero on every grid."""
    bell = np.random.default_rng(seed).standard_normal(4000)
    sides = {"above": np.abs(bell), "below": -np.abs(bell), "both": bell, "mostly above": np.maximum(bell, -0.5)}
    bins = np.floor(sides[side] * 128).astype(np.int64)
    first, last = min(int(bins.min()), 0), max(int(bins.max()), 0)
    counts = np.bincount(bins - first, minlength=last - first + 1)
    found = []
    for count in (0, zeros):
        counts[-first] = count
        found.append(ranges.entropy(counts, first / 128, (last + 1) / 128, of(Int8())))
    assert found[0] == found[1]


def test_entropy_keeps_a_relus_output_that_is_mostly_zero() -> None:
    """99 % zeros, the rest a bell without outliers: with the zeros counted, nearly all of the bell would be cut off."""
    values = np.random.default_rng(0).standard_normal(100000)
    values = np.concatenate([np.abs(values), np.zeros(100 * len(values))])
    counts, _, high = histogram(values, 2048)
    found = ranges.entropy(counts, 0.0, high, of(Int8()))
    rounded = of_activation(*found, Int8()).rounded(values)
    assert 10 * np.log10((values**2).mean() / ((values - rounded) ** 2).mean()) > 35


def test_mse_is_the_best_of_a_fine_search_by_hand() -> None:
    values = relu_like()
    counts, low, high = histogram(values)
    found = ranges.mse(counts, low, high, of(Int8()))

    def error(most: float) -> float:
        return float(((values - of_activation(0, most, Int8()).rounded(values)) ** 2).mean())

    by_hand = min(error(most) for most in np.linspace(high / 400, high, 400))
    assert error(found[1]) <= 1.1 * by_hand
    assert error(found[1]) < error(high)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-5, 5), st.floats(0.01, 10), st.sampled_from(["percentile", "entropy", "mse"]))
def test_a_range_never_leaves_what_was_seen(seed: int, centre: float, width: float, kind: str) -> None:
    counts, low, high = histogram(np.random.default_rng(seed).normal(centre, width, 2000))
    found = {
        "percentile": lambda: ranges.percentile(counts, low, high, 99.5),
        "entropy": lambda: ranges.entropy(counts, low, high, of(Int8())),
        "mse": lambda: ranges.mse(counts, low, high, of(Int8())),
    }[kind]()
    assert low <= found[0] <= found[1] <= high


def test_a_tensor_of_one_value_keeps_it() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[0] = 10
    assert ranges.entropy(counts, 2.0, 2.0, of(Int8())) == (2.0, 2.0)
    assert ranges.mse(counts, 2.0, 2.0, of(Int8())) == (2.0, 2.0)
