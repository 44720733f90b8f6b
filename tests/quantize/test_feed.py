"""Calibration data comes by the batch: every image once, in order, or some spread over all."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.quantize.feed import Feed


def counting(count: int) -> Feed:
    return Feed(count, lambda start, stop: {"x": np.arange(start, stop)[:, None]})


@pytest.mark.parametrize(("count", "sizes"), [(64, [64]), (150, [64, 64, 22]), (1, [1])])
def test_every_image_is_read_once_in_order(count: int, sizes: list[int]) -> None:
    batches = list(counting(count).batches(64))
    assert [len(inputs["x"]) for _, inputs in batches] == sizes
    assert [start for start, _ in batches] == list(range(0, count, 64))
    assert np.concatenate([inputs["x"] for _, inputs in batches])[:, 0].tolist() == list(range(count))


def test_few_are_spread_evenly_over_all() -> None:
    few = counting(100).first(8)
    taken = np.concatenate([inputs["x"] for _, inputs in few.batches(3)])[:, 0]
    assert taken.tolist() == [0, 12, 25, 37, 50, 62, 75, 87]


def test_more_than_there_are_is_all() -> None:
    few = counting(5).first(8)
    assert few.count == 5
    assert few.take(0, 5)["x"][:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("count", [100, 127, 191, 512, 1000])
def test_the_last_ones_are_seen_too(count: int) -> None:
    """Samples are sorted by class: what is left out at the end would be whole classes."""
    few = counting(count).first(64)
    taken = np.concatenate([inputs["x"] for _, inputs in few.batches(10)])[:, 0]
    assert len(taken) == 64
    assert np.diff(taken).max() - np.diff(taken).min() <= 1
    assert count - 1 - taken[-1] <= count // 64
