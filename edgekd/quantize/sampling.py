"""Which values of a large tensor are counted: of the many near zero a few, of the few far from it all or nearly all.

The largest values decide where clipping pays, however rare they are. An even sample would miss one in 10^5, and the
range with the least squared error would cut them all off.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgekd.quantize.histogram import Histogram

_WHOLE = 2**18
"""Of a tensor with no more values over all images, every one is counted."""
_NEAR = 2**11
"""At least this many values near zero are counted of each batch."""
_FAR = 2**20
"""At least this many values over all images are searched for those far from zero."""
_BOUND = 4.0
"""Times the root mean square of the sample: what is far. At most 6 % of values are (Chebyshev), as a rule below 1 %."""


def count_sample(
    histogram: Histogram, value: NDArray[np.float32], ends: tuple[float, float], start: int, total: int
) -> None:
    """Count evenly spread values of a batch, those near zero and those far from it; each stands for its neighbours.

    `ends` are the least and largest value so far, `start` is the batch's first image, and `total` how many values
    there are over all images.
    """
    flat = value.reshape(-1)
    step = _step(flat.size, flat.size // _NEAR)
    if step == 1 or total <= _WHOLE:
        histogram.add(flat, *ends)
        return
    near = flat[start % step :: step].copy()
    bound = np.float32(_BOUND * math.sqrt(float(np.dot(near, near)) / near.size))
    both = -ends[0] > bound
    histogram.add(near[np.abs(near) <= bound if both else near <= bound], *ends, each=step)
    step = _step(flat.size, total // _FAR)
    far = flat[start % step :: step]
    beyond = far > bound
    if both:
        beyond |= far < -bound
    histogram.add(far[np.flatnonzero(beyond)], *ends, each=step)


def _step(size: int, most: int) -> int:
    """Return the largest step up to `most` that shares no factor with a batch's size, so with no row or column."""
    step = max(1, most)
    while math.gcd(step, size) > 1:
        step -= 1
    return step
