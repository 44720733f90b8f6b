"""BatchNorm's statistics, estimated anew after a cut: those of the uncut network are wrong for what is left."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def estimate(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Average the statistics over batches of normalised images float [B, 3, H, W], in place."""
    # All but the norms: dropout and the like draw at random.
    module.eval()
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d) and layer.track_running_stats]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        # None: the plain average over all batches instead of a moving one.
        layer.momentum = None
        layer.train()
    for batch in batches:
        module(batch)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    module.eval()
