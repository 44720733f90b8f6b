"""Calibration data as a graph takes it, by the batch, so that memory does not grow with the number of images."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgekd.errors import ModelError

Inputs = dict[str, NDArray[Any]]
"""One batch: arrays by the graph's input names, [N, ...] where a feed names no other axis."""


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
    """`count` samples; `take(start, stop)` returns some of one group as the graph's inputs."""

    count: int
    take: Callable[[int, int], Inputs]
    groups: tuple[int, ...] = ()
    """How many samples of one shape follow one another: a batch holds one shape. Empty: all have the same."""
    axes: Mapping[str, int | None] = field(default_factory=dict)
    """The axis of each input that counts samples, 0 where it is not named; None: one value for all of a group."""

    @property
    def ends(self) -> tuple[int, ...]:
        """The index at which each group begins, and the one past the last sample."""
        return (0, *accumulate(self.groups or (self.count,)))

    def group_of(self, index: int) -> int:
        """Return the group that a sample belongs to."""
        return bisect_right(self.ends, index) - 1

    def batches(self, size: int) -> Iterator[tuple[int, Inputs]]:
        """Yield (index of the first sample, inputs) for batches of `size`; the last one of a group may be smaller."""
        for first, last in pairwise(self.ends):
            for start in range(first, last, size):
                yield start, self.take(start, min(start + size, last))

    def batches_for(self, session: Any, most: int) -> Iterator[tuple[int, Inputs]]:
        """Yield batches as a session takes them: of `most` samples, fewer of large ones, or of what its graph fixes.

        What does not fill a fixed batch is left out.

        Raises ModelError where there are fewer samples of one shape than the graph takes at once.
        """
        fixed = self.fixed_by(session)
        if fixed is None:
            return self.batches(self._within(most))
        whole = [
            (start, start + fixed)
            for first, last in pairwise(self.ends)
            for start in range(first, last - fixed + 1, fixed)
        ]
        if not whole:
            raise ModelError(
                f"the graph takes {fixed} at once, there are {self.count}",
                "give more samples, or export the graph with an open batch",
            )
        return ((start, self.take(start, stop)) for start, stop in whole)

    def fixed_by(self, session: Any) -> int | None:
        """Return how many samples a session's graph takes at once; None where that is open."""
        return self._fixed([(value.name, value.shape) for value in session.get_inputs()])

    def size_of(self, inputs: Inputs) -> int:
        """Return how many samples a batch holds."""
        return self._fixed([(name, value.shape) for name, value in inputs.items()]) or 1

    def _within(self, most: int) -> int:
        """Return how many images a batch holds: what a graph makes of large ones takes gigabytes otherwise."""
        one = _bytes(self.take(0, 1)) if self.count else 0
        return max(1, min(most, _BATCH_BYTES // max(1, one)))

    def few(self, wanted: int, model: ModelProto) -> Feed:
        """Return as many samples as `first`, or as a graph takes at once where it fixes that and takes more."""
        constants = {value.name for value in model.graph.initializer}
        shapes = [
            (value.name, [dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim])
            for value in model.graph.input
            if value.name not in constants
        ]
        return self.first(max(wanted, self._fixed(shapes) or 0))

    def first(self, wanted: int) -> Feed:
        """Return `wanted` samples spread evenly over all, held in memory where they are small."""
        indices = [int(index) for index in spread(self.count, wanted)]
        taken: dict[int, list[int]] = {}
        for index in indices:
            taken.setdefault(self.group_of(index), []).append(index)
        groups = list(taken.values())
        starts = (0, *accumulate(len(group) for group in groups))

        def take(start: int, stop: int) -> Inputs:
            group = bisect_right(starts, start) - 1
            rows = groups[group][start - starts[group] : stop - starts[group]]
            return self._joined([self.take(index, index + 1) for index in rows])

        few = Feed(len(indices), take, tuple(len(group) for group in groups), self.axes)
        is_small = bool(indices) and len(indices) * _bytes(self.take(indices[0], indices[0] + 1)) <= _HELD_BYTES
        return few.held() if is_small else few

    def held(self) -> Feed:
        """Return the same samples, held in memory."""
        groups = [self.take(first, last) for first, last in pairwise(self.ends)]

        def take(start: int, stop: int) -> Inputs:
            group = self.group_of(start)
            rows = slice(start - self.ends[group], stop - self.ends[group])
            return {name: along(value, self.axes.get(name, 0), rows) for name, value in groups[group].items()}

        return Feed(self.count, take, self.groups, self.axes)

    def _joined(self, parts: list[Inputs]) -> Inputs:
        axes = {name: self.axes.get(name, 0) for name in parts[0]}
        return {
            name: parts[0][name] if axis is None else np.concatenate([part[name] for part in parts], axis)
            for name, axis in axes.items()
        }

    def _fixed(self, shapes: list[tuple[str, Any]]) -> int | None:
        """Return the first fixed size of the batch."""
        for name, shape in shapes:
            axis = self.axes.get(name, 0)
            if axis is not None and len(shape) > axis and isinstance(shape[axis], int):
                return int(shape[axis])
        return None


def along(value: NDArray[Any], axis: int | None, rows: slice) -> NDArray[Any]:
    """Return some samples of an array that counts them along an axis; all of it where it does not count them."""
    return value if axis is None else value[(slice(None),) * axis + (rows,)]
