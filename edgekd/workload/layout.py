"""Where the channels and the sides of an image lie in the input of a graph."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.workload.batch import Dims

Size = tuple[int, int]
"""Height and width."""
_CHANNELS = {1, 3}


@dataclass(frozen=True)
class Layout:
    """[N, C, H, W] or [N, H, W, C]."""

    channels: int
    first: bool
    """Whether the channels come before height and width."""
    height: int | None
    width: int | None
    """None where the graph leaves it open."""

    @property
    def name(self) -> str:
        """NCHW or NHWC."""
        return "NCHW" if self.first else "NHWC"

    @property
    def is_open(self) -> bool:
        """Whether the graph leaves height or width to the caller."""
        return self.height is None or self.width is None

    def takes(self, size: Size) -> bool:
        """Whether the graph's fixed sides are those of a size."""
        return self.height in {None, size[0]} and self.width in {None, size[1]}

    def shape(self, batch: int, size: Size) -> tuple[int, ...]:
        """Return the shape of a batch of images of a size."""
        return (batch, self.channels, *size) if self.first else (batch, *size, self.channels)

    def __str__(self) -> str:
        sides = [str(side or "any") for side in (self.height, self.width)]
        parts = ["N", str(self.channels), *sides] if self.first else ["N", *sides, str(self.channels)]
        return f"[{', '.join(parts)}]"


def layout_of(dims: Dims) -> Layout | None:
    """Return the layout of an input that takes images of one or three channels; None for any other."""
    if len(dims) != 4:
        return None
    sizes = [size if isinstance(size, int) else None for size in dims]
    for channels, first, sides in ((sizes[1], True, sizes[2:]), (sizes[3], False, sizes[1:3])):
        if channels in _CHANNELS:
            return Layout(channels, first, sides[0], sides[1])
    return None
