"""Random numbers that belong to an image: a pure function of (seed, view, index), whatever batch it comes in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, auto

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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


@dataclass(frozen=True)
class Draws:
    """[images, 24], uniform in [0, 1): on the host and on the images' device, so that neither waits for the other."""

    host: NDArray[np.float32]
    device: Tensor

    def of(self, indices: Tensor, on_device: Tensor) -> Draws:
        """Return the rows of some images; the indices too are given on either side."""
        return Draws(self.host[indices.numpy()], self.device[on_device])


def sent(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Return an array on a device, without waiting until it is there."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def of_view(seed: int, view: int, count: int, device: torch.device | None = None) -> Draws:
    """Return the draws of images 0..count-1 under one view: rows of a Philox stream with the key (seed, view).

    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". The raw stream is used, which numpy keeps equal
    from version to version (NEP 19), unlike its distributions.
    """
    stream = np.random.Philox(key=np.array([seed, view], dtype=np.uint64))
    bits = stream.random_raw(count * _COLUMNS // 2).astype("<u8").view("<u4")
    host = ((bits >> 8) * np.float32(2**-24)).astype(np.float32).reshape(count, _COLUMNS)
    return Draws(host, sent(host, device or torch.device("cpu")))
