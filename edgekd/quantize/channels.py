"""Along which axis of an output its channels lie, and which of them are of one size."""

from __future__ import annotations

from collections.abc import Sequence

APART = 16.0
"""Values whose largest magnitudes are further apart than this do not share 256 levels: four bits would be left. So such
parts are not joined in int8, and such channels are not judged together."""


def channel_axis(shape: Sequence[int]) -> int | None:
    """Return the channel axis of an array [N, ...], or None where all its values are one channel.

    Axis 1 of [N, C] and [N, C, H, W] (the last one of [N, H, W, C], known by its equal sides), the shorter one of
    [N, C, anchors] and [N, anchors, C], the last of more axes.
    """
    if len(shape) < 2:
        return None
    if len(shape) == 2:
        return 1
    if len(shape) == 3:
        return 1 if shape[1] <= shape[2] else 2
    if len(shape) == 4:
        return 3 if shape[1] == shape[2] != shape[3] else 1
    return len(shape) - 1
