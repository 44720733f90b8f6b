"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) for images of 32×32: it halves them three times, not five."""

from __future__ import annotations

from torch import nn
from torchvision.models import mobilenet_v2

_BLOCKS = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 1], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]
"""Expansion, channels, repetitions, stride: the paper's table 2 with two strides less and one earlier."""


def mobilenet(num_classes: int = 10, width: float = 0.5, dropout: float = 0.0) -> nn.Module:
    """Return torchvision's MobileNetV2 whose first convolution keeps the image's size."""
    network = mobilenet_v2(
        num_classes=num_classes, width_mult=width, dropout=dropout, inverted_residual_setting=_BLOCKS
    )
    stem = network.features[0][0]
    stem.stride = (1, 1)
    return network
