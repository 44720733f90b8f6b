"""Calibration images as onnxruntime's quantizer reads them: by the batch, so that memory stays flat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader

from edgekd.workload.dataset import Images

_BATCH = 64


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds `images` through `convert`, a batch at a time, under the graph's input name."""

    def __init__(self, images: Images, name: str, convert: Callable[[Images], NDArray[Any]]) -> None:
        self._images = images
        self._name = name
        self._convert = convert
        self._next = 0

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next batch, or None at the end."""
        batch = self._images[self._next : self._next + _BATCH]
        self._next += _BATCH
        return {self._name: self._convert(np.ascontiguousarray(batch))} if len(batch) else None
