"""From times to what can be said: quantiles with distribution-free intervals, ratios round by round."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import quantile_test


class Quantile(BaseModel):
    """A quantile and its 95 % interval by order statistics; None where the sample cannot support one."""

    model_config = ConfigDict(frozen=True)

    value: float
    low: float | None
    high: float | None


class Latency(BaseModel):
    """Milliseconds per call, batch 1."""

    model_config = ConfigDict(frozen=True)

    p50: Quantile
    p90: Quantile | None
    """None where there are too few rounds for an upper end of its interval."""
    calls: int


def latency(rounds: list[list[float]]) -> Latency:
    """Summarize one model's times [round][call].

    Calls of one round are not independent. p50 takes each round by its median. p90 is a property of single calls and
    takes them all: a quarter of them are no faster than p50, so p90 is never below it.
    """
    calls = np.array(rounds, np.float64)
    return Latency(p50=_quantile(np.median(calls, axis=1), 0.5), p90=_p90(calls), calls=int(calls.size))


def ratio(slow: list[list[float]], fast: list[list[float]]) -> Quantile:
    """Return the median over rounds of (median of slow / median of fast): how many times faster."""
    ratios = np.median(np.array(slow), axis=1) / np.median(np.array(fast), axis=1)
    return _quantile(ratios, 0.5)


def _quantile(sample: np.ndarray, part: float) -> Quantile:
    interval = quantile_test(sample, p=part).confidence_interval(0.95)
    return Quantile(value=float(np.quantile(sample, part)), low=_or_none(interval.low), high=_or_none(interval.high))


def _p90(calls: NDArray[np.float64]) -> Quantile | None:
    """Return the 90th percentile of calls [round, call], or None where so few rounds support no interval.

    The interval is Woodruff's (1952): binomial bounds on the rank, read off the calls' own distribution. A round counts
    as one observation, as if its calls were equal, so that the interval is too wide rather than too narrow.
    """
    count = len(calls)
    ranks = quantile_test(np.arange(count), p=0.9).confidence_interval(0.95)
    if not math.isfinite(ranks.high):
        return None
    low, value, high = np.quantile(calls, [ranks.low / (count - 1), 0.9, ranks.high / (count - 1)])
    return Quantile(value=float(value), low=float(low), high=float(high))


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
