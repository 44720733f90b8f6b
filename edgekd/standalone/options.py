"""Numbers and sizes as the command line takes them."""

from __future__ import annotations

import re

from edgekd.errors import DataError, RecipeError
from edgekd.workload.layout import Size

_SIDES = range(1, 2**14 + 1)


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Read one number for all channels, or one for each of three. Raises RecipeError."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) not in {1, 3}:
        raise RecipeError(
            f'{option} "{text}" is neither one number nor three', f"for instance {option} 123.7,116.3,103.5"
        )
    return found


def sizes(text: str) -> tuple[Size, ...]:
    """Read sizes with commas between them: 320, or 240x320 for height and width. Raises RecipeError."""
    found: dict[Size, None] = {}
    for part in text.split(",") if text else ():
        sides = part.strip().split("x")
        if len(sides) > 2 or not all(re.fullmatch("[0-9]{1,5}", side) and int(side) in _SIDES for side in sides):
            hint = f"for instance --size 224, or --size 240x320; no side above {_SIDES[-1]}"
            raise RecipeError(f'--size "{text}" is no size', hint)
        found[int(sides[0]), int(sides[-1])] = None
    return tuple(found)


def size(text: str) -> Size | None:
    """Read one size, or none. Raises RecipeError."""
    found = sizes(text)
    if len(found) > 1:
        raise RecipeError(f'--size "{text}" names {len(found)} sizes, one is timed', "run it once for each")
    return found[0] if found else None


def per_channel(option: str, values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return a number for each channel. Raises DataError for three different ones where the graph takes one channel."""
    if len(values) == 1 or (channels == 1 and len(set(values)) == 1):
        return values[:1] * channels
    if len(values) != channels:
        raise DataError(
            f"{option} has {len(values)} numbers, and the graph takes {channels} channel(s)", "give one number"
        )
    return values
