"""Quantiles and their intervals against naive order statistics."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.bench.statistics import Quantile, latency, ratio


def below(number: int, count: int, part: float) -> float:
    """P(at most `number` of `count` fall below the quantile)."""
    return math.fsum(math.comb(count, k) * part**k * (1 - part) ** (count - k) for k in range(number + 1))


def naive_interval(sample: list[float], part: float) -> tuple[float | None, float | None]:
    """The narrowest pair of order statistics that leaves at most 2.5 % on either side; None where none does."""
    ordered, count = sorted(sample), len(sample)
    lows = [rank for rank in range(1, count + 1) if below(rank - 1, count, part) <= 0.025]
    highs = [rank for rank in range(1, count + 1) if 1 - below(rank - 1, count, part) <= 0.025]
    return (ordered[max(lows) - 1] if lows else None), (ordered[min(highs) - 1] if highs else None)


def rounds(count: int, calls: int = 5, seed: int = 0) -> list[list[float]]:
    return np.random.default_rng(seed).gamma(4.0, 1.0, (count, calls)).tolist()


def close(found: Quantile, wanted: tuple[float | None, float | None]) -> bool:
    return (found.low, found.high) == wanted


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 80), st.integers(0, 99))
def test_median_and_its_interval(count: int, seed: int) -> None:
    times = rounds(count, seed=seed)
    found = latency(times)
    assert found.p50.value == pytest.approx(statistics.median(statistics.median(each) for each in times))
    assert close(found.p50, naive_interval([float(np.median(each)) for each in times], 0.5))
    assert found.calls == 5 * count


def test_p90_and_its_interval_are_of_one_call_a_round() -> None:
    """Calls of a round are not independent; the last of each is."""
    times = rounds(60)
    ordered = sorted(each[-1] for each in times)
    position = 0.9 * (len(ordered) - 1)
    low = math.floor(position)
    wanted = ordered[low] + (position - low) * (ordered[low + 1] - ordered[low])
    found = latency(times).p90
    assert found.value == pytest.approx(wanted)
    assert close(found, naive_interval(ordered, 0.9))


@pytest.mark.parametrize("count", [5, 6, 20, 35, 36, 100])
def test_bounds_that_the_sample_cannot_support_are_none(count: int) -> None:
    found = latency(rounds(count))
    assert (found.p50.low is None) == (found.p50.high is None) == (count < 6)
    assert (found.p90.high is None) == (count < 36)  # 0.9**36 is the first power below 2.5 %


def test_six_rounds_are_the_fewest_with_an_interval_for_the_median() -> None:
    times = rounds(6)
    medians = [float(np.median(each)) for each in times]
    assert close(latency(times).p50, (min(medians), max(medians)))


def test_ratio_is_taken_round_by_round() -> None:
    """A machine that slows down by ten halfway changes the times, not the ratio."""
    drift = np.where(np.arange(20) < 10, 1.0, 10.0)[:, None]
    slow, fast = (3.0 * drift * np.ones((20, 5))).tolist(), (drift * np.ones((20, 5))).tolist()
    assert ratio(slow, fast) == Quantile(value=3.0, low=3.0, high=3.0)


def test_ratio_interval_is_that_of_the_rounds_ratios() -> None:
    slow, fast = rounds(30, seed=1), rounds(30, seed=2)
    ratios = [float(np.median(a)) / float(np.median(b)) for a, b in zip(slow, fast, strict=True)]
    found = ratio(slow, fast)
    assert found.value == pytest.approx(float(np.median(ratios)))
    assert (found.low, found.high) == pytest.approx(naive_interval(ratios, 0.5))


def test_one_slow_call_in_a_round_moves_no_median() -> None:
    times = [[1.0, 1.0, 1.0, 1.0, 50.0]] * 20
    assert latency(times).p50 == Quantile(value=1.0, low=1.0, high=1.0)
