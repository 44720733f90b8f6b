"""Images are told by their channels: one or three, before or behind height and width."""

from __future__ import annotations

from typing import Any

import pytest

from edgekd.workload.layout import layout_of


@pytest.mark.parametrize(
    ("dims", "name", "channels", "sides"),
    [
        (["N", 3, 32, 48], "NCHW", 3, (32, 48)),
        (["N", "H", "W", 3], "NHWC", 3, (None, None)),
        ([None, 1, 48, None], "NCHW", 1, (48, None)),
        ([1, 28, 28, 1], "NHWC", 1, (28, 28)),
        (["N", 3, 3, 3], "NCHW", 3, (3, 3)),
    ],
)
def test_the_layout_follows_from_the_channels(
    dims: list[Any], name: str, channels: int, sides: tuple[int | None, int | None]
) -> None:
    found = layout_of(dims)
    assert found is not None
    assert (found.name, found.channels, (found.height, found.width)) == (name, channels, sides)
    assert found.is_open == (None in sides)
    assert found.shape(2, (5, 7)) == ((2, channels, 5, 7) if name == "NCHW" else (2, 5, 7, channels))


@pytest.mark.parametrize("dims", [["N", 4, 8, 8], ["N", 640], ["N", None, None, None], [3, 8, 8], []])
def test_what_has_no_channels_of_an_image_is_none(dims: list[Any]) -> None:
    assert layout_of(dims) is None


def test_a_size_fits_where_the_fixed_sides_are_its_own() -> None:
    found = layout_of(["N", 3, 48, "W"])
    assert found is not None
    assert found.takes((48, 320))
    assert not found.takes((32, 320))
