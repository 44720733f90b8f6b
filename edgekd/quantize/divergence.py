"""How far a quantized graph's answers are from the float graph's: per output, and there per group of channels.

A relative error over a whole tensor tells nothing of a detector: where boxes (0-320) stand beside scores (0-1), it is
that of the boxes. So channels are judged beside those of their own size, and each output by its worst group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import EdgekdError, ModelError, first_line
from edgekd.quantize.channels import APART, channel_axis
from edgekd.ref import Ref

Answers: TypeAlias = Mapping[str, NDArray[Any]]
"""All outputs by name, [N, ...] each."""
Kind = Literal["classes", "integers", "values"]
_MEANS: Mapping[Kind, str] = {
    "classes": "of the classes of",
    "integers": "of the integers of",
    "values": "of the variance of",
}
_LEAST_SPREAD = 1e-4
"""Of the largest magnitude's square: what channels that hardly vary are held against."""
_RARE = 0.25
"""Of the largest score: scores whose root mean square is below this respond rarely."""
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Difference:
    """What one output loses, 0-1, in its worst group of channels."""

    output: str
    kind: Kind
    channels: tuple[int, ...]
    """The group's channels; empty: all of them."""
    lost: float
    noise: float
    """Of the worst group: mean squared difference over mean square."""

    @property
    def words(self) -> str:
        """Say what `lost` is a part of."""
        where = f'"{self.output}"' + (f" ({listed(self.channels)})" if self.channels else "")
        return f"{_MEANS[self.kind]} {where}"


@dataclass(frozen=True)
class Measure:
    """What is compared of two graphs' answers, float's and int8's."""

    classes: tuple[str, ...] = ()
    """The outputs that are scores of classes, [N, classes]."""
    metric: Ref | None = None
    """The user's own: a function of (answers of float, answers of int8) by output, which returns the part lost."""

    def differences(self, reference: Answers, found: Answers) -> tuple[Difference, ...]:
        """Return what each output loses.

        Of classes the part of samples with another argmax; of integers the part that differs; of other values, in each
        group of channels of like magnitude, Σ(x̂ - x)² / Σ(x - mean)²: the part of the variance that is not reproduced.
        """
        return tuple(_difference(name, value, found[name], name in self.classes) for name, value in reference.items())

    def lost(self, reference: Answers, found: Answers, outputs: tuple[Difference, ...] | None = None) -> float:
        """Return the part lost, 0-1: by the user's metric, else of the worst output. Raises ModelError.

        `outputs` are the differences, where they are known already.
        """
        if self.metric is not None:
            return _by_metric(self.metric, reference, found)
        known = outputs if outputs is not None else self.differences(reference, found)
        return max((each.lost for each in known), default=0.0)

    def words(self, outputs: tuple[Difference, ...]) -> str:
        """Say what `lost` is a part of."""
        if self.metric is not None:
            return f"by {self.metric.spec}"
        return max(outputs, key=lambda each: each.lost).words if outputs else "no output"

    @property
    def smooth(self) -> Measure:
        """The same measure for a few samples, where too few classes flip to rank by: their scores count as values."""
        return Measure((), self.metric)


def noise_shares(reference: Answers, found: Answers) -> list[float]:
    """Return noise over signal, by their mean squares, of every group of channels of every output."""
    shares: list[float] = []
    for name, signal in reference.items():
        if signal.size:
            channels = _channels(signal, found[name])
            shares += [channels.share(group) for group in channels.groups()]
    return shares


def _difference(name: str, parent: NDArray[Any], found: NDArray[Any], is_classes: bool) -> Difference:
    if not parent.size:
        return Difference(name, "values", (), 0.0, 0.0)
    if not np.isfinite(parent).any():
        raise ModelError(
            f'the float file answers nothing but NaN and infinity as "{name}"',
            "suspects: its weights, and what it is fed (--mean and --std)",
        )
    channels = _channels(parent, found)
    groups = channels.groups()
    noise = max(channels.share(group) for group in groups)
    if is_classes:
        one, other = (value.reshape(len(value), -1).argmax(1) for value in (parent, found))
        return Difference(name, "classes", (), float((one != other).mean()), noise)
    if not np.issubdtype(parent.dtype, np.floating):
        return Difference(name, "integers", (), float((parent != found).mean()), noise)
    losses = [channels.lost(group) for group in groups]
    at = int(np.argmax(losses))
    return Difference(name, "values", tuple(groups[at].tolist()) if len(groups) > 1 else (), losses[at], noise)


def _by_metric(metric: Ref, reference: Answers, found: Answers) -> float:
    try:
        lost = float(metric.load()(dict(reference), dict(found)))
    except EdgekdError:
        raise
    except Exception as error:
        # The user's own code: it may raise anything.
        raise ModelError(
            f"the metric {metric.spec} failed: {type(error).__name__}: {first_line(error)}",
            "it is given two dictionaries of arrays [N, ...] by output, float's and int8's, and returns the part lost",
        ) from None
    if not 0 <= lost <= 1:
        raise ModelError(f"the metric {metric.spec} returned {lost}", "it must return the part that is lost, 0 to 1")
    return lost


@dataclass(frozen=True)
class _Channels:
    """What is known of each channel of an output, float64 [channels] each."""

    largest: NDArray[np.float64]
    """The largest magnitude of the float graph's values."""
    square: NDArray[np.float64]
    """Their mean square."""
    spread: NDArray[np.float64]
    """Their variance."""
    noise: NDArray[np.float64]
    """The mean squared difference; infinite where an answer is not a finite number."""
    rare: NDArray[np.bool_]
    """Scores, between 0 and 1, whose responses are rare."""

    def groups(self) -> list[NDArray[np.int64]]:
        """Return the channels by groups that are held against their own variance together.

        A class that no sample shows has next to no variance of its own, so rare scores are one group. All others stand
        beside those of like magnitude, the largest ones first.
        """
        found = [np.flatnonzero(self.rare)] if self.rare.any() else []
        others = np.flatnonzero(~self.rare)
        others = others[np.argsort(-self.largest[others], kind="stable")]
        while len(others):
            near = self.largest[others] * APART >= self.largest[others[0]]
            found.append(np.sort(others[near]))
            others = others[~near]
        return found

    def share(self, group: NDArray[np.int64]) -> float:
        """Return a group's noise over its signal."""
        return float(self.noise[group].sum()) / (float(self.square[group].sum()) or len(group))

    def lost(self, group: NDArray[np.int64]) -> float:
        """Return the part of a group's variance that is not reproduced, at most 1."""
        noise, spread = float(self.noise[group].sum()), float(self.spread[group].sum())
        least = float((self.largest[group] ** 2).sum()) * _LEAST_SPREAD
        bound = max(spread, least)
        # Against answers that are all zero any other is a loss of everything.
        return min(1.0, noise / bound) if noise and bound else float(noise > 0)


def _channels(parent: NDArray[Any], found: NDArray[Any]) -> _Channels:
    one, other = _comparable(_by_channel(parent), _by_channel(found))
    largest = np.abs(one).max(1).astype(np.float64)
    square, mean = _mean_square(one), one.mean(1, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        noise = np.nan_to_num(_mean_square(other - one), nan=np.inf)
    bounded = (one.min(1) >= -_ROUNDING) & (largest <= 1 + _ROUNDING)
    rare = bounded & (np.sqrt(square) <= _RARE * largest[bounded].max(initial=0.0))
    return _Channels(largest, square, np.maximum(square - mean**2, 0), noise, rare)


def _comparable(parent: NDArray[np.float32], found: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Return both with zeros where the float graph gives NaN or infinity and the other the same; NaN where it does not.

    Such answers have no magnitude: a mask of -inf is right where it stays one.
    """
    odd = ~np.isfinite(parent)
    if not odd.any():
        return parent, found
    same = (parent == found) | (np.isnan(parent) & np.isnan(found))
    zero, nan = np.float32(0), np.float32(np.nan)
    return np.where(odd, zero, parent), np.where(odd, np.where(same, zero, nan), found)


def _by_channel(value: NDArray[Any]) -> NDArray[np.float32]:
    """Return an output as float32 [channels, values]."""
    axis = channel_axis(value.shape)
    rows = value.reshape(1, -1) if axis is None else np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)
    return rows.astype(np.float32, copy=False)


def _mean_square(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.einsum("cv,cv->c", rows, rows, dtype=np.float64) / rows.shape[1])


def listed(channels: tuple[int, ...]) -> str:
    """Name channels, runs of them as first-last."""
    runs = np.split(np.array(channels), np.flatnonzero(np.diff(channels) != 1) + 1)
    named = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs[:4]]
    return f"channels {', '.join(named)}{', …' if len(runs) > 4 else ''}"
