"""The images that pruning looks at, in batches of mixed classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from edgekd.models.pixels import normalise
from edgekd.workload import arrays
from edgekd.workload.dataset import Split
from edgekd.workload.normalisation import Normalisation

_BATCH = 256
_PIXELS = _BATCH * 64 * 64


def batches(split: Split, count: int, normalisation: Normalisation) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised images float [B, 3, H, W] and labels, at most `count`, in batches of one size.

    Folders are read class by class: in that order a batch would hold one class, and statistics of a batch, and what a
    network answers by them, would be of that class.
    """
    sample = arrays.sample(split, count)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(sample.labels))
    images, labels = torch.from_numpy(sample.images[order]), torch.from_numpy(sample.labels[order])
    most = max(16, min(_BATCH, _PIXELS // (images.shape[1] * images.shape[2])))
    parts = -(-len(images) // most)
    # Equal parts: each weighs the same in a plain average, and none is a single image.
    for part, own in zip(torch.tensor_split(images, parts), torch.tensor_split(labels, parts), strict=True):
        yield normalise(part.permute(0, 3, 1, 2), normalisation), own
