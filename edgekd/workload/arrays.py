"""A prepared split on disk: images.npy, uint8 [N, H, W, 3], and labels.npy, int64 [N]."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekd.workload.dataset import Split


def save(split: Split, folder: Path) -> None:
    """Write a split."""
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", np.ascontiguousarray(split.images))
    np.save(folder / "labels.npy", split.labels.astype(np.int64))


def load(folder: Path) -> Split:
    """Read a split that `save` wrote."""
    return Split(np.load(folder / "images.npy"), np.load(folder / "labels.npy"))


def sample(split: Split, count: int) -> Split:
    """Return at most `count` images, spread evenly over the split."""
    count = min(count, len(split.labels))
    return split.take(np.unique(np.linspace(0, len(split.labels) - 1, count).astype(np.int64)))
