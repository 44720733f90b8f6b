"""Which axis of an output holds its channels."""

from __future__ import annotations

import pytest

from edgekd.quantize.channels import channel_axis


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((5,), None),
        ((5, 640), 1),
        ((5, 84, 8400), 1),
        ((5, 8400, 84), 2),
        ((5, 21, 64, 48), 1),
        ((5, 85, 22, 22), 1),
        ((5, 22, 22, 85), 3),
        ((5, 3, 80, 80, 85), 4),
    ],
)
def test_the_channel_axis_of_each_common_layout(shape: tuple[int, ...], axis: int | None) -> None:
    assert channel_axis(shape) == axis
