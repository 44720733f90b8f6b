"""torchvision's segmentation networks as one tensor out, and its detectors' backbones: what can be cut of them."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn


class Segmentation(nn.Module):
    """A segmentation network without its auxiliary head: [N, 3, H, W] to [N, classes, H, W]."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = torchvision.models.get_model(name, weights=None, weights_backbone=None)

    def forward(self, x: Tensor) -> Tensor:
        """Return the main output."""
        return self.net(x)["out"]  # type: ignore[no-any-return]


class Backbone(nn.Module):
    """A detector's backbone: [N, 3, H, W] to the means over the pixels of all its feature maps, side by side.

    The heads behind it choose boxes by the data, which no graph of fixed shapes can follow; what enters them stays.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = torchvision.models.get_model(name, weights=None, weights_backbone=None).backbone

    def forward(self, x: Tensor) -> Tensor:
        """Return one row an image."""
        return torch.cat([features.mean((2, 3)) for features in self.net(x).values()], 1)


def segmentation(name: str) -> nn.Module:
    """Return one of torchvision.models.segmentation."""
    return Segmentation(name)


def backbone(name: str) -> nn.Module:
    """Return the backbone of one of torchvision.models.detection."""
    return Backbone(name)
