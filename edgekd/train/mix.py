"""MixUp and CutMix: two images of a batch become one, with a share of either's label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgekd.recipe import Augment
from edgekd.train.draws import sent


@dataclass(frozen=True)
class Mixed:
    """images uint8 [B, H, W, 3], with whom each was mixed (int64 [B]), and what share is its own (float [B])."""

    images: Tensor
    partner: Tensor
    share: Tensor


def mix(images: Tensor, config: Augment, seed: int, step: int) -> Mixed:
    """Mix a batch: MixUp (Zhang et al. 2017) or CutMix (Yun et al. 2019), by turns at random where both are asked.

    A function of (seed, step) and of who is in the batch: that is why no cache of logits can hold it.
    """
    chance = np.random.default_rng([seed, step])
    count = len(images)
    partner = sent(chance.permutation(count), images.device)
    cuts = config.cutmix > 0 and (config.mixup == 0 or chance.random() < 0.5)
    parameter = config.cutmix if cuts else config.mixup
    share = chance.beta(parameter, parameter, count).astype(np.float32)
    if cuts:
        return _cutmix(images, partner, share, chance)
    weight = sent(share, images.device)
    blended = torch.lerp(images[partner].float(), images.float(), weight[:, None, None, None])
    return Mixed(blended.round_().to(torch.uint8), partner, weight)


def _cutmix(images: Tensor, partner: Tensor, share: np.ndarray, chance: np.random.Generator) -> Mixed:
    """Put a box of the partner into each image; its own share is what is left outside the box."""
    count, height, width, _ = images.shape

    def inside(length: int) -> np.ndarray:
        half = length * np.sqrt(1 - share) / 2
        middle = chance.uniform(0, length, count)
        return np.asarray(np.abs(np.arange(length) + 0.5 - middle[:, None]) < half[:, None])

    box = inside(height)[:, :, None] & inside(width)[:, None, :]
    left = 1 - box.reshape(count, -1).mean(1, dtype=np.float32)
    mask = sent(box, images.device)[..., None]
    return Mixed(torch.where(mask, images[partner], images), partner, sent(left, images.device))
