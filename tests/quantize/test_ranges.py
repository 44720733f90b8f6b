"""Ranges against independent references: onnxruntime's percentile, a naive divergence in float64, a search by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization.calibrate import HistogramCollector

from edgekd.quantize import ranges
from edgekd.quantize.grid import of_activation
from edgekd.target import Int8

BINS = 512


def histogram(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    low, high = float(values.min()), float(values.max())
    return np.histogram(values, BINS, (low, high))[0].astype(np.int64), low, high


def relu_like(seed: int = 0) -> np.ndarray:
    """Half zero, a bell, and one outlier far out."""
    values = np.maximum(np.random.default_rng(seed).standard_normal(20000), 0)
    values[0] = 20.0
    return values


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


def naive_divergence(counts: np.ndarray, start: int, stop: int, levels: int) -> float:
    """Migacz's divergence, bin by bin."""
    p = [float(count) for count in counts[start:stop]]
    p[0] += float(sum(counts[:start]))
    p[-1] += float(sum(counts[stop:]))
    size = stop - start
    q = [0.0] * size
    for level in range(levels):
        mine = [at for at in range(size) if at * levels // size == level]
        filled = [at for at in mine if counts[start + at] > 0]
        for at in filled:
            q[at] = sum(float(counts[start + each]) for each in mine) / len(filled)
    total_p, total_q = sum(p), sum(q)
    return sum(a / total_p * np.log((a / total_p) / max(b / total_q, 1e-12)) for a, b in zip(p, q, strict=True) if a)


def test_entropy_is_the_smallest_of_naive_divergences() -> None:
    counts, low, high = histogram(relu_like())
    levels = 64
    found = ranges.entropy(counts, low, high, levels)
    width = (high - low) / BINS
    cuts = [round(high * part / width) for part in np.linspace(1, 1 / 128, 128)]
    by_hand = {stop: naive_divergence(counts, 0, stop, levels) for stop in cuts if stop >= levels}
    best = min(by_hand, key=lambda stop: (by_hand[stop], -stop))
    assert found == (low, pytest.approx(best * width))
    assert found[1] < high / 2, "the one outlier must not decide"


def test_mse_is_the_best_of_a_fine_search_by_hand() -> None:
    values = relu_like()
    counts, low, high = histogram(values)
    found = ranges.mse(counts, low, high, lambda least, most: of_activation(least, most, Int8()))

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
        "entropy": lambda: ranges.entropy(counts, low, high, 128),
        "mse": lambda: ranges.mse(counts, low, high, lambda least, most: of_activation(least, most, Int8())),
    }[kind]()
    assert low <= found[0] <= found[1] <= high


def test_a_tensor_of_one_value_keeps_it() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[0] = 10
    assert ranges.entropy(counts, 2.0, 2.0, 128) == (2.0, 2.0)
    assert ranges.mse(counts, 2.0, 2.0, lambda least, most: of_activation(least, most, Int8())) == (2.0, 2.0)
