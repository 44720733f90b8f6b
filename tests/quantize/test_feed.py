"""Calibration data comes by the batch: every image once, in order, or some spread over all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.errors import ModelError
from edgekd.quantize.feed import Feed, spread


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


def session_of(**shapes: list[Any]) -> Any:
    inputs = [SimpleNamespace(name=name, shape=shape) for name, shape in shapes.items()]
    return SimpleNamespace(get_inputs=lambda: inputs)


def grouped(*counts: int) -> Feed:
    """Sample i of group g is an array of width g + 1 that holds i; `state` counts samples along its second axis."""
    starts = [sum(counts[:group]) for group in range(len(counts))]

    def take(start: int, stop: int) -> dict[str, np.ndarray]:
        group = max(at for at, first in enumerate(starts) if first <= start)
        marks = np.arange(start, stop, dtype=np.float32)
        return {"x": np.repeat(marks[:, None], group + 1, 1), "state": np.stack([marks, marks])}

    return Feed(sum(counts), take, counts, {"state": 1})


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 6))
def test_a_batch_holds_samples_of_one_shape(counts: list[int], size: int) -> None:
    feed = grouped(*counts)
    seen: list[float] = []
    for start, inputs in feed.batches(size):
        group = feed.group_of(start)
        assert inputs["x"].shape[1] == group + 1
        assert feed.size_of(inputs) == len(inputs["x"]) == inputs["state"].shape[1] <= size
        assert start == len(seen)
        seen += inputs["x"][:, 0].tolist()
    assert seen == list(range(sum(counts)))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 40))
def test_few_of_several_shapes_are_spread_over_all_of_them(counts: list[int], wanted: int) -> None:
    feed = grouped(*counts)
    few = feed.first(wanted)
    batches = list(few.batches(4))
    taken = [mark for _, inputs in batches for mark in inputs["state"][0].tolist()]
    assert taken == spread(feed.count, wanted).tolist()
    assert sum(few.groups) == few.count == len(taken)
    assert all(len(set(inputs["x"][:, 0].tolist()) - set(inputs["state"][1].tolist())) == 0 for _, inputs in batches)


def test_a_fixed_batch_is_filled_within_each_shape() -> None:
    feed = grouped(5, 3, 7)
    batches = list(feed.batches_for(session_of(x=[3, "T"], state=[2, 3]), 64))
    assert [start for start, _ in batches] == [0, 5, 8, 11]
    assert [len(inputs["x"]) for _, inputs in batches] == [3] * 4
    with pytest.raises(ModelError, match="the graph takes 8 at once, there are 15"):
        feed.batches_for(session_of(x=[8, "T"], state=[2, 8]), 64)


def test_the_fixed_size_of_another_axis_is_no_batch() -> None:
    feed = grouped(5)
    assert feed.fixed_by(session_of(state=[2, "N"], x=["N", "T"])) is None
    assert feed.fixed_by(session_of(state=[2, 4], x=["N", "T"])) == 4


def test_one_value_for_all_is_neither_cut_nor_joined() -> None:
    rate = np.array(16000)
    feed = Feed(9, lambda start, stop: {"x": np.zeros((stop - start, 2)), "rate": rate}, axes={"rate": None})
    assert feed.first(4).take(1, 3)["rate"] == 16000
    assert feed.first(4).take(1, 3)["x"].shape == (2, 2)
