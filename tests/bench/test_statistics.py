"""Quantiles and their intervals against naive order statistics."""

import math
import statistics
from random import Random

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


def test_p90_is_that_of_all_calls() -> None:
    """Five calls a round: the 90th percentile is that of all 300, interpolated between its neighbours."""
    times = rounds(60)
    ordered = sorted(call for each in times for call in each)
    position = 0.9 * (len(ordered) - 1)
    low = math.floor(position)
    found = latency(times).p90
    assert found is not None
    assert found.value == pytest.approx(ordered[low] + (position - low) * (ordered[low + 1] - ordered[low]))


def test_interval_of_p90_is_by_order_statistics_where_a_round_has_one_call() -> None:
    times = rounds(60, calls=1)
    found = latency(times).p90
    assert found is not None
    assert close(found, naive_interval([each[0] for each in times], 0.9))


def test_interval_of_p90_counts_rounds_and_not_calls() -> None:
    """Five equal calls in every round are known no better than one."""
    once = rounds(60, calls=1)
    one, five = latency(once).p90, latency([each * 5 for each in once]).p90
    assert one is not None
    assert five is not None
    assert five.low == pytest.approx(one.low, rel=0.05)
    assert five.high == pytest.approx(one.high, rel=0.1)


def test_interval_of_p90_holds_the_true_one_as_often_as_it_says() -> None:
    """Rounds that differ and calls that differ within them; at least 95 % of 500 intervals, up to chance."""
    generator = np.random.default_rng(0)

    def drawn(count: int) -> np.ndarray:
        return generator.gamma(8.0, 1.0, (count, 1)) + generator.gamma(2.0, 1.0, (count, 5))

    truth = float(np.quantile(drawn(400_000), 0.9))
    found = [latency(drawn(60).tolist()).p90 for _ in range(500)]
    held = sum(each is not None and each.low <= truth <= each.high for each in found)  # type: ignore[operator]
    assert held >= 0.93 * len(found)


@settings(deadline=None)
@given(st.integers(1, 60), st.lists(st.integers(1, 20), min_size=1, max_size=7), st.randoms(use_true_random=False))
def test_p90_is_never_below_the_median(count: int, calls: list[int], random: Random) -> None:
    """Whatever the calls are, also where the last ones of all rounds are the fastest."""
    times = [[float(call * random.randint(1, 3)) for call in calls] for _ in range(count)]
    found = latency(times)
    assert (found.p90 is None) == (count < 36)
    assert found.p90 is None or found.p50.value <= found.p90.value + 1e-12
    assert found.p90 is None or found.p90.low <= found.p90.value <= found.p90.high  # type: ignore[operator]


def test_last_calls_that_are_the_fastest_take_no_p90_below_the_median() -> None:
    found = latency([[2.0, 2.0, 2.0, 2.0, 1.0]] * 40)
    assert found.p90 == found.p50 == Quantile(value=2.0, low=2.0, high=2.0)


@pytest.mark.parametrize("count", [5, 6, 20, 35, 36, 100])
def test_what_the_sample_cannot_support_is_none(count: int) -> None:
    found = latency(rounds(count))
    assert (found.p50.low is None) == (found.p50.high is None) == (count < 6)
    assert (found.p90 is None) == (count < 36)  # 0.9**36 is the first power below 2.5 %


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
