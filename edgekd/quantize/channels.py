"""Along which axis of an output its channels lie: scores of one class, one coordinate, one map."""

from __future__ import annotations

from collections.abc import Sequence


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
