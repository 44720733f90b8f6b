"""The outputs of a session for many batches, and as one array for each output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd import runtime
from edgekd.quantize.feed import Feed, Inputs


def batch_axes(session: Any, feed: Feed) -> list[int]:
    """Return for each output of a session the axis that counts samples: the one named as the inputs' batch, or 0."""
    names = {
        value.shape[axis]
        for value in session.get_inputs()
        if (axis := feed.axes.get(value.name, 0)) is not None and len(value.shape) > axis
    }
    named = [[isinstance(size, str) and size in names for size in value.shape] for value in session.get_outputs()]
    return [found.index(True) if any(found) else 0 for found in named]


def answered(session: Any, feed: Feed, batch: int, most: int) -> Iterator[tuple[int, Inputs, list[NDArray[Any]]]]:
    """Yield (index of the first sample, inputs, all outputs) of a feed, `batch` samples at a time at most.

    Of dense outputs as many samples of each shape as `most` bytes hold: the same ones for every graph alike.
    """
    names = [value.name for value in session.get_outputs()]
    held: Counter[int] = Counter()
    for start, inputs in feed.batches_for(session, batch):
        group = feed.group_of(start)
        if held[group] * max(1, len(feed.groups)) > most:
            continue
        found = runtime.answer(session, names, inputs)
        held[group] += sum(value.nbytes for value in found)
        yield start, inputs, found


def joined(parts: Sequence[NDArray[Any]], axis: int = 0) -> NDArray[Any]:
    """Join one output's batches, each with its samples along `axis`, to [N, ...]; one without an axis is stacked.

    Where samples differ in shape, [N, C, H, W] becomes [1, C, Σ N·H·W, 1]: all of them end to end along the first axis
    in which they differ, so that an axis of channels stays one.
    """
    arrays = [np.moveaxis(np.atleast_1d(part), axis if part.ndim > axis else 0, 0) for part in parts]
    rank = arrays[0].ndim
    differing = [at for at in range(1, rank) if len({array.shape[at] for array in arrays}) > 1]
    if not differing:
        return np.concatenate(arrays)
    first, *others = differing
    rows = []
    for array in arrays:
        # The samples and all axes that differ come together, behind those that do not.
        last = np.moveaxis(array, [0, *differing], range(-1 - len(differing), 0))
        kept = last.shape[: rank - 1 - len(differing)]
        rows.append(last.reshape(*kept, -1))
    laid = np.moveaxis(np.concatenate(rows, -1)[None], -1, first)
    return np.expand_dims(laid, tuple(others)) if others else laid
