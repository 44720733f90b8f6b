"""Accuracies with their uncertainty."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import binomtest


class Accuracy(BaseModel):
    """Top-1 on some images, a fraction 0-1, with the Wilson 95 % interval (Wilson 1927)."""

    model_config = ConfigDict(frozen=True)

    top1: float
    low: float
    high: float
    images: int


def top1(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> Accuracy:
    """Return the accuracy of logits [N, classes] against labels [N]."""
    right = int((logits.argmax(1) == labels).sum())
    interval = binomtest(right, len(labels)).proportion_ci(confidence_level=0.95, method="wilson")
    return Accuracy(top1=right / len(labels), low=float(interval.low), high=float(interval.high), images=len(labels))


def agreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the part of images on which two models name the same class."""
    return float((one.argmax(1) == other.argmax(1)).mean())
