"""Calibration data as a graph takes it, by the batch, so that memory does not grow with the number of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgekd.errors import ModelError

Inputs = dict[str, NDArray[Any]]
"""One batch: arrays [N, ...] by the graph's input names."""


_BATCH_BYTES = 8 * 2**20
"""What the inputs of one batch may take; the tensors that a graph makes of them take some ten times as much each."""
_HELD_BYTES = 64 * 2**20


def _bytes(inputs: Inputs) -> int:
    return sum(value.nbytes for value in inputs.values())


def spread(count: int, wanted: int) -> NDArray[np.int64]:
    """Return at most `wanted` indices below `count`, evenly spread over all."""
    wanted = min(wanted, count)
    return np.arange(wanted, dtype=np.int64) * count // max(1, wanted)


@dataclass(frozen=True)
class Feed:
    """`count` images; `take(start, stop)` returns them as the graph's inputs."""

    count: int
    take: Callable[[int, int], Inputs]

    def batches(self, size: int) -> Iterator[tuple[int, Inputs]]:
        """Yield (index of the first image, inputs) for batches of `size` images; the last one may be smaller."""
        for start in range(0, self.count, size):
            yield start, self.take(start, min(start + size, self.count))

    def batches_for(self, session: Any, most: int) -> Iterator[tuple[int, Inputs]]:
        """Yield batches as a session takes them: of `most` images, fewer of large ones, or of what its graph fixes.

        What does not fill a fixed batch is left out.

        Raises ModelError where there are fewer images than the graph takes at once.
        """
        fixed = fixed_batch(session)
        if fixed is None:
            return self.batches(self._within(most))
        if self.count < fixed:
            raise ModelError(f"the graph takes {fixed} at once, there are {self.count}", "give more samples")
        return Feed(self.count // fixed * fixed, self.take).batches(fixed)

    def _within(self, most: int) -> int:
        """Return how many images a batch holds: what a graph makes of large ones takes gigabytes otherwise."""
        one = _bytes(self.take(0, 1)) if self.count else 0
        return max(1, min(most, _BATCH_BYTES // max(1, one)))

    def few(self, wanted: int, model: ModelProto) -> Feed:
        """Return as many images as `first`, or as a graph takes at once where it fixes that and takes more."""
        dims = model.graph.input[0].type.tensor_type.shape.dim
        return self.first(max(wanted, dims[0].dim_value if dims else 0))

    def first(self, wanted: int) -> Feed:
        """Return `wanted` images spread evenly over all, held in memory where they are small."""
        indices = spread(self.count, wanted)

        def take(start: int, stop: int) -> Inputs:
            parts = [self.take(int(index), int(index) + 1) for index in indices[start:stop]]
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

        if not len(indices) or len(indices) * _bytes(self.take(0, 1)) > _HELD_BYTES:
            return Feed(len(indices), take)
        held = take(0, len(indices))
        return Feed(len(indices), lambda start, stop: {name: value[start:stop] for name, value in held.items()})


def fixed_batch(session: Any) -> int | None:
    """Return how many images a session's graph takes at once; None where that is open."""
    fixed = [value.shape[0] for value in session.get_inputs() if value.shape and isinstance(value.shape[0], int)]
    return int(fixed[0]) if fixed else None
