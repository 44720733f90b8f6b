"""Weights that were set to zero, and stay so while the others train."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Zeros:
    """Where the weights of convolutions and linear layers are zero now."""

    def __init__(self, module: nn.Module) -> None:
        layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        self._weights: list[Tensor] = [layer.weight for layer in layers if layer.weight.requires_grad]
        self._masks = [(weight != 0).to(weight.dtype) for weight in self._weights]

    @torch.no_grad()
    def keep(self) -> None:
        """Set them to zero again, after a step."""
        if self._masks and self._masks[0].device != self._weights[0].device:
            # The module moved to its device after these were made; they follow once.
            self._masks = [mask.to(weight.device) for mask, weight in zip(self._masks, self._weights, strict=True)]
        torch._foreach_mul_(self._weights, self._masks)
