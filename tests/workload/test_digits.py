"""The built-in example is the same every time."""

from __future__ import annotations

import numpy as np

from edgekd.workload.digits import digits


def test_the_digits_are_1797_grey_images_of_ten_classes_a_fifth_of_them_test() -> None:
    data = digits((8, 8))
    assert (data.train.images.shape, data.test.images.shape) == ((1438, 8, 8, 3), (359, 8, 8, 3))
    assert data.classes == tuple("0123456789")
    assert (data.train.images[..., 0] == data.train.images[..., 2]).all()
    assert (data.train.images.min(), data.train.images.max()) == (0, 255)


def test_every_class_has_its_share_of_the_test_images() -> None:
    data = digits((8, 8))
    whole = np.bincount(data.train.labels) + np.bincount(data.test.labels)
    assert np.abs(np.bincount(data.test.labels) - whole * 359 / 1797).max() <= 1
