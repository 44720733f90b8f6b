"""Seeded, stratified draws of image indices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def stratified(labels: NDArray[np.int64], count: int, seed: int) -> Indices:
    """Draw `count` indices, sorted, each class in proportion (largest remainders first). Needs count <= N."""
    if not 0 <= count <= len(labels):
        raise ValueError(f"cannot draw {count} of {len(labels)}")
    generator = np.random.Generator(np.random.PCG64(seed))
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / len(labels)) if len(labels) else sizes * 0.0
    shares = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(-(exact - shares), kind="stable")
    shares[by_remainder[: count - int(shares.sum())]] += 1
    drawn = [
        generator.permutation(np.flatnonzero(labels == label))[:share]
        for label, share in zip(classes, shares, strict=True)
    ]
    return np.sort(np.concatenate([*drawn, np.empty(0, np.int64)])).astype(np.int64)


def hold_out(labels: NDArray[np.int64], fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Return (kept, held out) indices; of each class `fraction` is held out, at least one image overall."""
    held = stratified(labels, max(1, round(fraction * len(labels))), seed)
    kept = np.setdiff1d(np.arange(len(labels), dtype=np.int64), held)
    return kept, held
