"""From what a tensor took for values to the range that its integers cover: a pure function each.

All take counts [bins] of equal width between low and high, and return (low, high).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekd.quantize.grid import Grid

Range: TypeAlias = tuple[float, float]
Counts: TypeAlias = NDArray[np.int64]
_CANDIDATES = 128
_STRIDE = 8


def percentile(counts: Counts, low: float, high: float, percent: float) -> Range:
    """Return the narrowest range of whole bins that cuts off at most half of the other values at each end.

    So it holds at least `percent` of them, and 100 cuts off nothing. To the width of a bin equal to onnxruntime's
    HistogramCollector.compute_percentile (asymmetric).
    """
    total = int(counts.sum())
    if not total:
        return low, high
    cut = total * (100 - percent) / 200
    start = int(np.searchsorted(np.cumsum(counts), cut, side="right"))
    stop = len(counts) - int(np.searchsorted(np.cumsum(counts[::-1]), cut, side="right"))
    return _between(counts, low, high, start, stop)


def entropy(counts: Counts, low: float, high: float, grid: Callable[[float, float], Grid]) -> Range:
    """Return the range whose quantized values tell least that is false: the smallest Kullback-Leibler divergence.

    Migacz 2017, "8-bit Inference with TensorRT" (GTC). P is what is seen, with what lies outside put on the ends;
    Q the same values in equal steps, each step's count shared by its bins that are not empty. The steps are as many as
    the range has levels on its grid: 256 from 0 up on uint8, 128 where half of a symmetric grid is below zero. As in
    NVIDIA's own code, the bins at zero take their neighbours' counts.
    """
    smooth = _without_zeros(counts, low, high)
    best, found = np.inf, (low, high)
    for start, stop in _cuts(counts, low, high):
        between = _between(counts, low, high, start, stop)
        levels = round((between[1] - between[0]) / grid(*between).scale + 1)
        if stop - start < levels:
            break
        divergence = _divergence(smooth, start, stop, levels)
        if divergence < best:
            best, found = divergence, between
    return found


def mse(counts: Counts, low: float, high: float, grid: Callable[[float, float], Grid]) -> Range:
    """Return the range with the smallest squared error of rounding to its grid; every bin counts as its centre.

    Looked for among every eighth threshold first, then among those around the best of these.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    cuts = list(_cuts(counts, low, high))
    if not cuts:
        return low, high

    def errors_of(start: int, stop: int) -> NDArray[np.float64]:
        return np.asarray(counts * (centres - grid(*_between(counts, low, high, start, stop)).rounded(centres)) ** 2)

    errors: dict[int, float] = {}
    for number in range(0, len(cuts), _STRIDE):
        start, stop = cuts[number]
        found = errors_of(start, stop)
        errors[number] = float(found.sum())
        # What is cut off costs more with every narrower range.
        if found[:start].sum() + found[stop:].sum() > min(errors.values()):
            break
    middle = min(errors, key=lambda number: errors[number])
    for number in range(max(0, middle - _STRIDE + 1), min(len(cuts), middle + _STRIDE)):
        if number != middle:
            errors[number] = float(errors_of(*cuts[number]).sum())
    return _between(counts, low, high, *cuts[min(errors, key=lambda number: (errors[number], number))])


def _cuts(counts: Counts, low: float, high: float) -> Iterator[tuple[int, int]]:
    """Yield (first, past last) bins of the values no farther from zero than a threshold, from all to few."""
    width = (high - low) / len(counts)
    if width == 0:
        return
    farthest = max(abs(low), abs(high))
    for part in np.linspace(1, 1 / _CANDIDATES, _CANDIDATES):
        threshold = farthest * part
        start = max(0, round((-threshold - low) / width))
        stop = min(len(counts), round((threshold - low) / width))
        if stop <= start:
            return
        yield start, stop


def _between(counts: Counts, low: float, high: float, start: int, stop: int) -> Range:
    width = (high - low) / len(counts)
    return low if start == 0 else low + start * width, high if stop == len(counts) else low + stop * width


def _without_zeros(counts: Counts, low: float, high: float) -> Counts:
    """Return the counts with each of the two bins that meet at zero holding what its outer neighbour holds.

    Zero stays zero whatever the range, and there may be so many, after a ReLU, that they would decide alone. A bin
    without an outer neighbour takes the other bin's.
    """
    found = counts.copy()
    width = (high - low) / len(counts)
    zero = round(-low / width) if width else -1
    below, above = zero - 1, zero
    if 0 < below < len(counts):
        found[below] = counts[below - 1]
    if 0 <= above < len(counts) - 1:
        found[above] = counts[above + 1]
    elif above == len(counts) - 1 and above > 0:
        found[above] = found[below]
    if below == 0 and len(counts) > 1:
        found[below] = found[above]
    return found


def _divergence(counts: Counts, start: int, stop: int, levels: int) -> float:
    inside = counts[start:stop].astype(np.float64)
    seen = inside.copy()
    seen[0] += counts[:start].sum()
    seen[-1] += counts[stop:].sum()
    # Each bin's step, the steps being of equal width though bins and steps need not divide.
    step = np.arange(len(inside)) * levels // len(inside)
    filled = inside > 0
    shares = np.bincount(step, inside, levels) / np.maximum(np.bincount(step, filled, levels), 1)
    told = np.where(filled, shares[step], 0.0)
    if told.sum() == 0:
        return float("inf")
    p, q = seen / seen.sum(), told / told.sum()
    there = p > 0
    # A value outside the range that fell on an empty end bin: nothing that Q holds, a tiny share stands for it.
    return float((p[there] * np.log(p[there] / np.maximum(q[there], 1e-12))).sum())
