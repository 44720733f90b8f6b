"""How often values fall into equal bins, in one pass: the bins double their width as larger values come.

No range need be known beforehand, so that calibration runs every image once. Bins lie at multiples of their width, and
between BINS and twice as many of them are used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 2048
_ROOM = 2 * BINS
_CHUNK = 2**16
"""Values counted at a time: what fits into a core's own cache, as 8 bytes each."""
_FINEST = 2.0**-20
"""Of the largest value: float32 tells no finer bins apart."""


@dataclass(frozen=True)
class Counts:
    """Counts int64 [bins] of equal bins between `low` and `high`, which hold all values."""

    counts: NDArray[np.int64]
    low: float
    high: float


class Histogram:
    """Counts the values of one tensor."""

    def __init__(self) -> None:
        self._counts = np.zeros(0, np.int64)
        self._width = 0.0
        self._first = 0
        """Bin i of the counts is from (first + i) · width."""

    def add(self, values: NDArray[np.float32], low: float, high: float, each: int = 1) -> None:
        """Add values, all of which lie between low and high; each counts so many times."""
        if not self._width:
            self._width = max((high - low) / BINS, max(abs(low), abs(high)) * _FINEST, 1e-30)
            self._first = int(np.floor(low / self._width))
            self._counts = np.zeros(_ROOM, np.int64)
        self._make_room(low, high)
        least, scale = np.float32(self._first * self._width), np.float32(1 / self._width)
        flat = values.reshape(-1)
        room = np.empty(min(_CHUNK, flat.size), np.float32)
        for start in range(0, flat.size, _CHUNK):
            chunk = flat[start : start + _CHUNK]
            # First the difference: values of a narrow range far from 0 keep their bins.
            scaled = np.subtract(chunk, least, out=room[: chunk.size])
            scaled *= scale
            # A value at an edge may be a rounding error outside: at the upper end it is cut here, at the lower end
            # the conversion takes what lies between -1 and 0 for 0.
            bins = np.minimum(scaled, np.float32(_ROOM - 1), out=scaled).astype(np.intp)
            self._counts += each * np.bincount(bins, minlength=_ROOM)

    def counts(self) -> Counts:
        """Return the counts without the empty bins at the ends."""
        used = np.flatnonzero(self._counts)
        if not len(used):
            return Counts(np.zeros(1, np.int64), 0.0, 0.0)
        start, stop = int(used[0]), int(used[-1]) + 1
        low, high = ((self._first + end) * self._width for end in (start, stop))
        return Counts(self._counts[start:stop].copy(), low, high)

    def _make_room(self, low: float, high: float) -> None:
        """Widen the bins until they hold low and high beside what is counted, and move them to where both lie."""
        if self._first * self._width <= low and high < (self._first + _ROOM) * self._width:
            return
        while True:
            used = np.flatnonzero(self._counts)
            bins = [int(np.floor(end / self._width)) for end in (low, high)]
            bins += [self._first + int(bin_) for bin_ in (*used[:1], *used[-1:])]
            start = min(bins)
            if max(bins) - start < _ROOM:
                break
            self._double()
        moved = np.zeros(_ROOM, np.int64)
        moved[self._first + used - start] = self._counts[used]
        self._counts, self._first = moved, start

    def _double(self) -> None:
        before = self._first % 2
        padded = np.pad(self._counts, (before, (len(self._counts) + before) % 2))
        self._counts = padded.reshape(-1, 2).sum(1)
        self._first = (self._first - before) // 2
        self._width *= 2
