"""From times to what can be said: quantiles with distribution-free intervals, ratios round by round."""

from __future__ import annotations

import math

import numpy as np
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
    p90: Quantile
    calls: int


def latency(rounds: list[list[float]]) -> Latency:
    """Summarize one model's times [round][call].

    Calls of one round are not independent, so each round counts once: with its median for p50, and for p90, a
    property of single calls, with its last call.
    """
    calls = np.array(rounds, np.float64)
    return Latency(
        p50=_quantile(np.median(calls, axis=1), 0.5), p90=_quantile(calls[:, -1], 0.9), calls=int(calls.size)
    )


def ratio(slow: list[list[float]], fast: list[list[float]]) -> Quantile:
    """Return the median over rounds of (median of slow / median of fast): how many times faster."""
    ratios = np.median(np.array(slow), axis=1) / np.median(np.array(fast), axis=1)
    return _quantile(ratios, 0.5)


def _quantile(sample: np.ndarray, part: float) -> Quantile:
    interval = quantile_test(sample, p=part).confidence_interval(0.95)
    return Quantile(value=float(np.quantile(sample, part)), low=_or_none(interval.low), high=_or_none(interval.high))


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
