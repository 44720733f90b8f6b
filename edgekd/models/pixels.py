"""Pixels as a network wants them: normalisation is a value beside the weights, applied around the user's module."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekd.workload.normalisation import Normalisation


def normalise(pixels: Tensor, normalisation: Normalisation) -> Tensor:
    """Return (pixels - mean) / std as float32, same shape [N, 3, H, W] and memory format."""
    mean = torch.tensor(normalisation.mean, device=pixels.device).view(1, 3, 1, 1)
    scale = 1.0 / torch.tensor(normalisation.std, device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float() - mean) * scale
