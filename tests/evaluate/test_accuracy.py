"""Accuracies against the closed formula of Wilson's interval."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd.evaluate.accuracy import Accuracy, agreement, top1

Z = 1.959963984540054  # the 97.5 % point of the normal distribution


def logits_with(right: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(images) % 4
    named = np.where(np.arange(images) < right, labels, (labels + 1) % 4)
    return np.eye(4, dtype=np.float32)[named], labels


def wilson(right: int, images: int) -> tuple[float, float]:
    part = right / images
    centre = part + Z**2 / (2 * images)
    half = Z * math.sqrt(part * (1 - part) / images + Z**2 / (4 * images**2))
    return (centre - half) / (1 + Z**2 / images), (centre + half) / (1 + Z**2 / images)


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1))
def test_interval_is_wilsons_closed_formula(images: int, part: float) -> None:
    right = round(part * images)
    found = top1(*logits_with(right, images))
    low, high = wilson(right, images)
    assert (found.top1, found.images) == (right / images, images)
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)


@pytest.mark.parametrize(("right", "bounds"), [(0, (0.0, 0.2775)), (10, (0.7225, 1.0))])
def test_none_and_all_right_keep_an_interval_within_0_and_1(right: int, bounds: tuple[float, float]) -> None:
    found = top1(*logits_with(right, 10))
    assert (found.low, found.high) == pytest.approx(bounds, abs=1e-4)


def test_agreement_counts_equal_classes_not_equal_logits() -> None:
    one = np.array([[0, 1], [2, 1], [0, 3], [5, 4]], np.float32)
    other = np.array([[0, 9], [0, 1], [2, 3], [1, 0]], np.float32)
    assert agreement(one, other) == 0.75
    assert agreement(one, 2 * one) == 1.0


def test_accuracy_survives_json() -> None:
    found = top1(*logits_with(3, 7))
    assert Accuracy.model_validate_json(found.model_dump_json()) == found
