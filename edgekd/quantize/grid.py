"""The grid of integers that a tensor is rounded to: scale and zero point, as onnxruntime's quantizer computes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekd.target import Int8

_LEVELS = {"uint8": (0, 255), "int8": (-128, 127)}


@dataclass(frozen=True)
class Grid:
    """x ≈ (q - zero_point) · scale, q from `least` to `most`."""

    scale: float
    zero_point: int
    least: int
    most: int

    def rounded(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the values as they stand on the grid."""
        integers = np.clip(np.rint(values / self.scale) + self.zero_point, self.least, self.most)
        return np.asarray((integers - self.zero_point) * self.scale, np.float64)


def of_activation(low: float, high: float, policy: Int8) -> Grid:
    """Return the grid of an activation that lies between low and high; zero is always on it."""
    least, most = _LEVELS[policy.activations]
    low, high = min(low, 0.0), max(high, 0.0)
    if policy.symmetric:
        high = max(-low, high)
        low = -high
        if policy.activations == "int8":
            least = -most
    scale = float(np.float32((high - low) / (most - least)))
    if scale < np.finfo(np.float32).tiny:
        return Grid(1.0, 0, least, most)
    zero_point = (least + most + 1) // 2 if policy.symmetric else int(np.rint(least - low / scale))
    return Grid(scale, zero_point, least, most)


def weight_levels(policy: Int8) -> tuple[int, int]:
    """Return the least and the largest integer of a weight: symmetric about its zero point."""
    if policy.weights == "int8":
        return (-64, 64) if policy.reduce_range else (-127, 127)
    return (0, 127) if policy.reduce_range else (0, 255)


def weight_scales(weight: NDArray[np.float32], policy: Int8) -> NDArray[np.float32]:
    """Return the scale of each output channel of an int8 weight [outputs, ...], equal ones where it is per tensor."""
    flat = np.abs(weight.reshape(len(weight), -1))
    largest = flat.max(1) if policy.per_channel else np.full(len(weight), flat.max())
    scale = (largest.astype(np.float64) / weight_levels(policy)[1]).astype(np.float32)
    alive = scale >= np.finfo(np.float32).tiny
    # A channel without weights still has a bias, which is rounded in steps of this scale times the input's.
    return np.where(alive, scale, scale[alive].max() if alive.any() else np.float32(1))


def has_dead_channel(weight: NDArray[np.float32]) -> bool:
    """Whether an output channel's weights are all zero: onnxruntime would take 1 for its scale, and lose its bias."""
    return not np.abs(weight.reshape(len(weight), -1)).max(1).all()


def weight_integers(weight: NDArray[np.floating], scale: NDArray[np.floating], policy: Int8) -> NDArray[np.float64]:
    """Return the integers of weights [outputs, ...], rounded to nearest."""
    return np.asarray(np.clip(np.rint(weight / _column(scale, weight)), *weight_levels(policy)), np.float64)


def rounded_weight(weight: NDArray[np.floating], scale: NDArray[np.floating], policy: Int8) -> NDArray[np.float64]:
    """Return weights [outputs, ...] as they stand on the grid of their scales."""
    return weight_integers(weight, scale, policy) * _column(scale, weight)


def _column(scale: NDArray[np.floating], weight: NDArray[np.floating]) -> NDArray[np.float64]:
    return scale.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
