"""Calibration reads every image once, in order, by the batch."""

import numpy as np
import pytest

from edgekd.quantize.calibration import Reader


@pytest.mark.parametrize(("count", "sizes"), [(64, [64]), (150, [64, 64, 22]), (1, [1])])
def test_every_image_is_read_once_in_order(count: int, sizes: list[int]) -> None:
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    reader = Reader(images, "x", lambda batch: batch.astype(np.float32) / 2)
    batches = []
    while (fed := reader.get_next()) is not None:
        batches.append(fed["x"])
    assert [len(batch) for batch in batches] == sizes
    assert np.array_equal(np.concatenate(batches), images.astype(np.float32) / 2)
    assert reader.get_next() is None
