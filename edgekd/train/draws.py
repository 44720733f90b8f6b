"""Random numbers that belong to an image: a pure function of (seed, view, index), whatever batch it comes in."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Draws: TypeAlias = NDArray[np.float32]
"""[images, len(Draw)], uniform in [0, 1)."""


class Draw(IntEnum):
    """The columns: each random decision has one of its own, so that switching one on leaves the others as they are."""

    ROW = 0
    COLUMN = auto()
    FLIP = auto()
    ANGLE = auto()
    ZOOM = auto()
    BRIGHTNESS = auto()
    CONTRAST = auto()
    SATURATION = auto()
    CUTOUT_ROW = auto()
    CUTOUT_COLUMN = auto()
    OPERATION_1 = auto()
    SIGN_1 = auto()
    OPERATION_2 = auto()
    SIGN_2 = auto()
    OPERATION_3 = auto()
    SIGN_3 = auto()
    OPERATION_4 = auto()
    SIGN_4 = auto()


_COLUMNS = 24
"""More than are named, and even: two draws come out of 64 bits. A further decision takes a free column."""


def of_view(seed: int, view: int, count: int) -> Draws:
    """Return the draws of images 0..count-1 under one view: rows of one Philox stream whose key is (seed, view).

    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". The raw stream is used, which numpy keeps equal
    from version to version (NEP 19), unlike its distributions.
    """
    stream = np.random.Philox(key=np.array([seed, view], dtype=np.uint64))
    bits = stream.random_raw(count * _COLUMNS // 2).astype("<u8").view("<u4")
    return ((bits >> 8) * np.float32(2**-24)).astype(np.float32).reshape(count, _COLUMNS)
