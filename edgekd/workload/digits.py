"""The built-in example: scikit-learn's embedded digits, 8×8 grey, as 32×32 RGB pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from edgekd.workload.dataset import Dataset, Split
from edgekd.workload.images import to_pixels
from edgekd.workload.splits import hold_out

_TEST_FRACTION = 0.2


def digits(shape: tuple[int, int]) -> Dataset:
    """Return 1,797 handwritten digits (UCI, Alpaydin & Kaynak 1998); a stratified fifth is test."""
    data = load_digits()
    grey = np.rint(data.images * (255.0 / 16.0)).astype(np.uint8)
    images = np.stack([to_pixels(Image.fromarray(image), shape) for image in grey])
    whole = Split(images, data.target.astype(np.int64))
    train, test = hold_out(whole.labels, _TEST_FRACTION, seed=0)
    return Dataset(whole.take(train), whole.take(test), tuple(str(digit) for digit in range(10)))
