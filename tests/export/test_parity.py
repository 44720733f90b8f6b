"""How far two sets of logits are apart."""

import numpy as np

from edgekd.export.parity import relative_difference


def test_largest_difference_over_largest_reference() -> None:
    reference = np.array([[1.0, -4.0], [2.0, 0.0]], np.float32)
    other = np.array([[1.0, -4.0], [2.5, 0.1]], np.float32)
    assert relative_difference(reference, other) == 0.125


def test_equal_is_zero_and_zeros_do_not_divide() -> None:
    zeros = np.zeros((2, 2), np.float32)
    assert relative_difference(zeros, zeros) == 0.0
    assert relative_difference(zeros, zeros + 0.5) == 0.5


def test_other_shape_or_nan_is_infinitely_far() -> None:
    ones = np.ones((2, 2), np.float32)
    assert relative_difference(ones, ones[:1]) == float("inf")
    assert relative_difference(ones, ones * np.nan) == float("inf")
