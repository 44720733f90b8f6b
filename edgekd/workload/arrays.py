"""Samples on disk: images.npy, uint8 [N, H, W, C], and where they have classes labels.npy, int64 [N].

Images of a second size lie in images-1.npy, and so on; labels are of all, in that order.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike

from edgekd.workload.dataset import Split

IMAGES = "images.npy"
LABELS = "labels.npy"
INPUTS = "inputs.json"
"""Where a graph takes other arrays: their names, in the order of input-0.npy, input-1.npy, …"""
GROUPS = "groups.json"
"""Where these are not all [N, ...] of one shape: the axis of each that counts samples (null: one value for a whole
group), and how many samples each group of one shape holds."""


def input_file(number: int, group: int = 0) -> str:
    """Return the name of the file of one of the arrays that INPUTS names; of each shape there is a file."""
    return f"input-{number}{_of(group)}.npy"


def images_file(group: int) -> str:
    """Return the name of the file of the images of one size; the first is IMAGES."""
    return f"images{_of(group)}.npy"


def _of(group: int) -> str:
    return f"-{group}" if group else ""


def reserved(file: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[Any]]:
    """Make an array on disk that is filled in place. Raises OSError where the disk lacks the room.

    Its blocks are asked for at once: a write through memory to a disk that is full would end the process.
    """
    array = open_memmap(file, "w+", np.dtype(dtype), shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return array


def save(split: Split, folder: Path) -> None:
    """Write a split."""
    folder.mkdir(parents=True)
    np.save(folder / IMAGES, np.ascontiguousarray(split.images))
    np.save(folder / LABELS, split.labels.astype(np.int64))


def load(folder: Path) -> Split:
    """Read a split that `save` wrote."""
    return Split(np.load(folder / IMAGES), np.load(folder / LABELS))


def sample(split: Split, count: int) -> Split:
    """Return at most `count` images, spread evenly over the split."""
    count = min(count, len(split.labels))
    return split.take(np.unique(np.linspace(0, len(split.labels) - 1, count).astype(np.int64)))
