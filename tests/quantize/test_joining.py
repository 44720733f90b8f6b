"""Outputs of many batches as one array, whichever axis counts samples and whether or not they are of one shape."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.quantize.feed import Feed
from edgekd.quantize.joining import batch_axes, joined


def test_batches_of_one_shape_are_put_together() -> None:
    parts = [np.ones((2, 3)), np.zeros((1, 3))]
    assert np.array_equal(joined(parts), np.concatenate(parts))
    assert joined([np.float32(1), np.float32(2)]).tolist() == [1, 2]


def test_samples_along_another_axis_come_first() -> None:
    whole = np.arange(2 * 5 * 3).reshape(2, 5, 3)
    assert np.array_equal(joined([whole[:, :3], whole[:, 3:]], axis=1), whole.swapaxes(0, 1))


@pytest.mark.parametrize(
    ("shapes", "found", "channel"),
    [
        ([(2, 3, 4, 5), (1, 3, 6, 5)], (1, 3, 2 * 4 + 6, 5), 1),
        ([(2, 3, 4, 5), (3, 3, 6, 7)], (1, 3, 2 * 20 + 3 * 42, 1), 1),
        ([(2, 100, 4), (1, 400, 4)], (1, 600, 4), 2),
        ([(1, 4, 100), (1, 4, 30)], (1, 4, 130), 1),
    ],
)
def test_samples_of_other_shapes_lie_end_to_end_and_channels_stay_channels(
    shapes: list[tuple[int, ...]], found: tuple[int, ...], channel: int
) -> None:
    """Each value is its channel's number; a side that does not differ stays an axis of its own."""
    parts = []
    for shape in shapes:
        marks = np.arange(shape[channel]).reshape([-1 if axis == channel else 1 for axis in range(len(shape))])
        parts.append(np.broadcast_to(marks, shape))
    result = joined(parts)
    assert result.shape == found
    marks = np.moveaxis(result, channel, 0).reshape(found[channel], -1)
    assert all(set(row.tolist()) == {number} for number, row in enumerate(marks))


@given(st.integers(0, 10**6))
def test_the_difference_of_two_files_is_the_same_however_their_answers_are_laid(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shapes = [(2, 3, 4, 5), (1, 3, 6, 7)]
    one, other = ([generator.standard_normal(shape) for shape in shapes] for _ in range(2))
    by_hand = sum(((a - b) ** 2).sum() for a, b in zip(one, other, strict=True))
    assert ((joined(one) - joined(other)) ** 2).sum() == pytest.approx(by_hand)


def test_an_outputs_batch_is_named_as_the_inputs_is() -> None:
    def values(**shapes: list[Any]) -> list[Any]:
        return [SimpleNamespace(name=name, shape=shape) for name, shape in shapes.items()]

    session = SimpleNamespace(
        get_inputs=lambda: values(x=["N", "T"], state=[2, "N", 3]),
        get_outputs=lambda: values(y=["N", 4], state_out=[2, "N", 3], other=["dim", 4], fixed=[2, 3]),
    )
    feed = Feed(1, lambda start, stop: {}, axes={"x": 0, "state": 1})
    assert batch_axes(session, feed) == [0, 1, 0, 0]
