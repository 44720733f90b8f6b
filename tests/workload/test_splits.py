"""Draws are seeded, stratified and exact in number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekd.workload.splits import hold_out, stratified

Labels = NDArray[np.int64]
some_labels = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(lambda labels: np.array(labels, np.int64))
seeds = st.integers(0, 2**32)


@given(labels=some_labels, part=st.floats(0, 1), seed=seeds)
def test_a_draw_has_exactly_the_asked_number_sorted_and_without_repeats(labels: Labels, part: float, seed: int) -> None:
    count = int(part * len(labels))
    drawn = stratified(labels, count, seed)
    assert len(drawn) == count
    assert drawn.dtype == np.int64
    assert (np.diff(drawn) > 0).all()
    assert count == 0 or 0 <= drawn[0] <= drawn[-1] < len(labels)


@given(labels=some_labels, part=st.floats(0, 1), seed=seeds)
def test_each_class_is_within_one_image_of_its_proportion(labels: Labels, part: float, seed: int) -> None:
    count = int(part * len(labels))
    drawn = labels[stratified(labels, count, seed)]
    for label in np.unique(labels):
        share = (labels == label).sum() * count / len(labels)
        assert abs((drawn == label).sum() - share) < 1 + 1e-9


@given(labels=some_labels, fraction=st.floats(0.01, 0.99), seed=seeds)
def test_kept_and_held_out_are_disjoint_and_together_everything(labels: Labels, fraction: float, seed: int) -> None:
    kept, held = hold_out(labels, fraction, seed)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert len(held) == max(1, round(fraction * len(labels)))


@given(labels=some_labels, seed=seeds)
def test_a_seed_gives_the_same_draw_each_time(labels: Labels, seed: int) -> None:
    count = len(labels) // 2
    assert np.array_equal(stratified(labels, count, seed), stratified(labels, count, seed))


def test_another_seed_gives_another_draw() -> None:
    labels = np.zeros(1000, np.int64)
    assert not np.array_equal(stratified(labels, 100, 0), stratified(labels, 100, 1))


def test_what_is_left_over_goes_to_the_largest_remainders() -> None:
    labels = np.repeat(np.arange(3), [50, 30, 20])
    drawn = labels[stratified(labels, 7, 0)]
    assert np.bincount(drawn).tolist() == [4, 2, 1]


@pytest.mark.parametrize("count", [-1, 4])
def test_more_than_there_is_cannot_be_drawn(count: int) -> None:
    with pytest.raises(ValueError, match=f"cannot draw {count} of 3"):
        stratified(np.zeros(3, np.int64), count, 0)
