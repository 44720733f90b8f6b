"""Which samples calibrate and which judge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.errors import DataError
from edgekd.standalone.samples import split


@given(total=st.integers(1, 60), asked=st.integers(1, 60), least=st.integers(1, 8), seed=st.integers(0, 5))
def test_nothing_judges_that_calibrated_unless_there_is_no_other_way(
    total: int, asked: int, least: int, seed: int
) -> None:
    if asked > total:
        with pytest.raises(DataError, match=f"{asked} calibration samples are asked for, the folder holds {total}"):
            split(np.zeros(total, np.int64), asked, least, seed)
        return
    found = split(np.zeros(total, np.int64), asked, least, seed)
    held_out = total - asked or total // 4 or (1 if total > 1 else 0)
    if found.is_apart:
        assert len(found.judged) == held_out >= least
        assert len(found.calibration) == min(asked, total - held_out)
    else:
        assert held_out < least or total - held_out < min(least, asked)
        assert len(found.calibration) == asked
        assert np.array_equal(found.calibration, found.judged)


def test_a_quarter_of_all_judges_and_a_single_sample_does_both() -> None:
    found = split(np.zeros(40, np.int64), 40, 1, 0)
    assert (len(found.calibration), len(found.judged), found.is_apart) == (30, 10, True)
    alone = split(np.zeros(1, np.int64), 1, 1, 0)
    assert (alone.calibration.tolist(), alone.judged.tolist(), alone.is_apart) == ([0], [0], False)


def test_each_label_is_on_both_sides_and_a_seed_decides() -> None:
    labels = np.arange(40) % 4
    found = split(labels, 20, 1, 3)
    assert np.bincount(labels[found.calibration]).tolist() == np.bincount(labels[found.judged]).tolist() == [5] * 4
    assert np.array_equal(split(labels, 20, 1, 3).calibration, found.calibration)
    assert not np.array_equal(split(labels, 20, 1, 4).calibration, found.calibration)


def test_the_hint_leaves_some_to_judge_by() -> None:
    with pytest.raises(DataError) as caught:
        split(np.zeros(40, np.int64), 512, 1, 0)
    assert caught.value.hint.startswith("--samples 30 ")
    assert split(np.zeros(40, np.int64), 30, 1, 0).is_apart


def test_where_nothing_calibrates_all_judge_up_to_2000() -> None:
    found = split(np.zeros(2500, np.int64), 0, 1, 0)
    assert (len(found.calibration), len(found.judged)) == (0, 2000)
    with pytest.raises(DataError, match="hold no sample"):
        split(np.zeros(0, np.int64), 0, 1, 0)
