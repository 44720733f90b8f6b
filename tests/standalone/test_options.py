"""Numbers and sizes as a user writes them."""

from __future__ import annotations

import pytest

from edgekd.errors import EdgekdError
from edgekd.standalone.options import numbers, per_channel, size, sizes


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("224", ((224, 224),)),
        ("240x320", ((240, 320),)),
        ("320,480x640", ((320, 320), (480, 640))),
        ("320, 320x320", ((320, 320),)),
    ],
)
def test_a_size_is_one_side_or_two_and_several_stand_between_commas(
    text: str, found: tuple[tuple[int, int], ...]
) -> None:
    assert sizes(text) == found


@pytest.mark.parametrize("text", ["0", "-1", "2x", "x3", "1x2x3", "a", "3.5", ",", "320,", "²", "99999", "9" * 30])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(EdgekdError, match="is no size") as caught:
        sizes(text)
    assert "--size 224" in caught.value.hint


def test_one_size_alone_is_timed() -> None:
    assert (size(""), size("3x4")) == (None, (3, 4))
    with pytest.raises(EdgekdError, match="names 2 sizes, one is timed"):
        size("3,4")


def test_one_number_stands_for_all_channels() -> None:
    assert per_channel("--mean", numbers("--mean", "7"), 3) == (7.0, 7.0, 7.0)
    assert per_channel("--mean", numbers("--mean", "7"), 1) == (7.0,)
    assert per_channel("--mean", numbers("--mean", "1,2,3"), 3) == (1.0, 2.0, 3.0)
    assert per_channel("--std", (5.0, 5.0, 5.0), 1) == (5.0,)


def test_three_different_numbers_for_one_channel_are_refused() -> None:
    with pytest.raises(EdgekdError, match=r"--mean has 3 numbers, and the graph takes 1 channel"):
        per_channel("--mean", (1.0, 2.0, 3.0), 1)
    with pytest.raises(EdgekdError, match='--std "1,2" is neither one number nor three'):
        numbers("--std", "1,2")
