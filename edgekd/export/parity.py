"""Does a graph still say what its source said?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-3


def relative_difference(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the largest difference, relative to the largest reference value; infinite where shapes differ or NaN."""
    if reference.shape != other.shape:
        return float("inf")
    scale = float(np.abs(reference).max()) or 1.0
    difference = float(np.abs(reference.astype(np.float64) - other).max()) / scale
    return difference if np.isfinite(difference) else float("inf")
