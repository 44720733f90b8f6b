"""The draws of an image depend on nothing but seed, view and index."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.train import draws
from edgekd.train.draws import Draw


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), view=st.integers(0, 1000), count=st.integers(1, 50), more=st.integers(0, 50))
def test_more_images_leave_the_draws_of_the_first_as_they_are(seed: int, view: int, count: int, more: int) -> None:
    assert np.array_equal(draws.of_view(seed, view, count).host, draws.of_view(seed, view, count + more).host[:count])


def test_each_image_can_be_drawn_alone_by_its_counter() -> None:
    """Image i owns 12 numbers of 64 bits: three steps of Philox's counter, which gives four at a time."""
    table = draws.of_view(7, 3, 20).host
    for index in (0, 1, 19):
        stream = np.random.Philox(key=np.array([7, 3], dtype=np.uint64), counter=[3 * index, 0, 0, 0])
        words = [int(word) for word in stream.random_raw(12)]
        halves = [half for word in words for half in (word & 0xFFFFFFFF, word >> 32)]
        assert table[index].tolist() == [(half >> 8) / 2**24 for half in halves]


def test_draws_are_uniform_and_below_1() -> None:
    table = draws.of_view(0, 0, 20_000).host
    assert table.dtype == np.float32
    assert table.min() >= 0 and table.max() < 1
    # Of 20,000 uniform numbers the mean deviates by 0.002 and a tenth's share by 0.0021.
    assert np.abs(table.mean(0) - 0.5).max() < 0.01
    assert np.abs((table < 0.1).mean(0) - 0.1).max() < 0.01
    assert np.abs(np.corrcoef(table.T) - np.eye(table.shape[1])).max() < 0.035


def test_seed_and_view_each_give_other_draws() -> None:
    base = draws.of_view(0, 0, 100).host
    assert np.abs(np.corrcoef(base.ravel(), draws.of_view(0, 1, 100).host.ravel())[0, 1]) < 0.1
    assert np.abs(np.corrcoef(base.ravel(), draws.of_view(1, 0, 100).host.ravel())[0, 1]) < 0.1


def test_every_decision_has_a_column() -> None:
    assert sorted(Draw) == list(range(len(Draw)))
    assert len(Draw) <= draws.of_view(0, 0, 1).host.shape[1]


def test_host_and_device_hold_the_same_rows() -> None:
    table = draws.of_view(3, 1, 9)
    some = table.of(torch.tensor([4, 0]), torch.tensor([4, 0]))
    assert np.array_equal(some.host, table.host[[4, 0]])
    assert np.array_equal(some.device.numpy(), some.host)
