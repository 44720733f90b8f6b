"""A split on disk is the split in memory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.workload import arrays
from edgekd.workload.dataset import Split


def numbered(count: int) -> Split:
    images = np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1).repeat(3, axis=3)
    return Split(images, np.arange(count, dtype=np.int32))


def test_a_saved_split_loads_as_it_was_with_int64_labels(tmp_path: Path) -> None:
    arrays.save(numbered(5), tmp_path / "train")
    found = arrays.load(tmp_path / "train")
    assert np.array_equal(found.images, numbered(5).images)
    assert (found.labels.tolist(), found.labels.dtype) == ([0, 1, 2, 3, 4], np.int64)


def test_equal_splits_give_equal_bytes_whatever_their_layout_in_memory(tmp_path: Path) -> None:
    split = numbered(4)
    arrays.save(split, tmp_path / "a")
    arrays.save(Split(np.asfortranarray(split.images), split.labels), tmp_path / "b")
    for name in ("images.npy", "labels.npy"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@given(size=st.integers(1, 50), count=st.integers(1, 60))
def test_a_sample_has_its_number_and_reaches_over_the_whole_split(size: int, count: int) -> None:
    labels = arrays.sample(numbered(size), count).labels
    assert len(labels) == min(size, count)
    assert labels[0] == 0
    assert count == 1 or labels[-1] == size - 1


@pytest.mark.parametrize(("count", "labels"), [(3, [0, 4, 9]), (1, [0])])
def test_a_sample_is_spread_evenly(count: int, labels: list[int]) -> None:
    assert arrays.sample(numbered(10), count).labels.tolist() == labels


def test_an_array_is_refused_where_the_disk_lacks_the_room_before_a_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filled through memory, a file without blocks on a full disk would end the process by SIGBUS."""
    made = arrays.reserved(tmp_path / "a.npy", np.uint8, (3, 4))
    made[:] = 7
    made.flush()
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 12
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.full((3, 4), 7, np.uint8))

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        arrays.reserved(tmp_path / "b.npy", np.uint8, (3, 4))
