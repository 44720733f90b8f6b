"""BatchNorm's statistics, estimated anew after a cut: those of the uncut network are wrong for what is left."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekd.models.network import Network
from edgekd.models.pixels import normalise

_BATCH = 256
_PIXELS = _BATCH * 64 * 64


def batch_for(shape: tuple[int, int]) -> int:
    """Return how many images of this height and width go into one batch: enough for statistics, few for memory."""
    return max(16, min(_BATCH, _PIXELS // (shape[0] * shape[1])))


@torch.no_grad()
def estimate(narrow: Network, images: Tensor) -> None:
    """Average the statistics over images uint8 [N, 3, H, W], in place."""
    # All but the norms: dropout and the like draw at random.
    narrow.module.eval()
    norms = [layer for layer in narrow.module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        # None: the plain average over all batches instead of a moving one.
        layer.momentum = None
        layer.train()
    # Equal parts: each weighs the same in the plain average, and none is a single image.
    batch = batch_for((int(images.shape[2]), int(images.shape[3])))
    for part in torch.tensor_split(images, -(-len(images) // batch)):
        narrow.module(normalise(part, narrow.plan.normalisation))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    narrow.module.eval()
