"""Calibration data as a graph takes it, by the batch, so that memory does not grow with the number of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Inputs = dict[str, NDArray[Any]]
"""One batch: arrays [N, ...] by the graph's input names."""


@dataclass(frozen=True)
class Feed:
    """`count` images; `take(start, stop)` returns them as the graph's inputs."""

    count: int
    take: Callable[[int, int], Inputs]

    def batches(self, size: int) -> Iterator[tuple[int, Inputs]]:
        """Yield (index of the first image, inputs) for batches of `size` images; the last one may be smaller."""
        for start in range(0, self.count, size):
            yield start, self.take(start, min(start + size, self.count))

    def first(self, count: int) -> Feed:
        """Return `count` images spread evenly over all."""
        step = max(1, self.count // count)
        if step == 1:
            return Feed(min(count, self.count), self.take)
        return Feed(min(count, -(-self.count // step)), lambda start, stop: _spread(self.take, start, stop, step))


def _spread(take: Callable[[int, int], Inputs], start: int, stop: int, step: int) -> Inputs:
    parts = [take(index * step, index * step + 1) for index in range(start, stop)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
