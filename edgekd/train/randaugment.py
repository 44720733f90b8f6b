"""RandAugment, with torchvision's operations: the images of a batch that drew the same one go through it together."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as V

from edgekd.recipe import RandAugment
from edgekd.train.draws import Draw, Draws, sent

_BINS = 30


def _affine(pixels: Tensor, translate: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Move, or shear about the upper left corner as the paper does."""
    corner = [0.0, 0.0] if any(shear) else None
    moved: Tensor = V.affine(pixels, 0.0, list(translate), 1.0, list(shear), InterpolationMode.NEAREST, center=corner)
    return moved


def _degrees(slope: float) -> float:
    return math.degrees(math.atan(slope))


# Uint8 [n, 3, H, W] and a strength from -1 to 1. The greatest strength of each is that of torchvision's RandAugment.
OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda pixels, _: pixels,
    "shear-x": lambda pixels, strength: _affine(pixels, shear=(_degrees(0.3 * strength), 0.0)),
    "shear-y": lambda pixels, strength: _affine(pixels, shear=(0.0, _degrees(0.3 * strength))),
    "translate-x": lambda pixels, strength: _affine(pixels, (int(150 / 331 * pixels.shape[3] * strength), 0)),
    "translate-y": lambda pixels, strength: _affine(pixels, (0, int(150 / 331 * pixels.shape[2] * strength))),
    "rotate": lambda pixels, strength: V.rotate(pixels, 30 * strength, InterpolationMode.NEAREST),
    "brightness": lambda pixels, strength: V.adjust_brightness(pixels, 1 + 0.9 * strength),
    "colour": lambda pixels, strength: V.adjust_saturation(pixels, 1 + 0.9 * strength),
    "contrast": lambda pixels, strength: V.adjust_contrast(pixels, 1 + 0.9 * strength),
    "sharpness": lambda pixels, strength: V.adjust_sharpness(pixels, 1 + 0.9 * strength),
    "posterize": lambda pixels, strength: V.posterize(pixels, 8 - round(4 * abs(strength))),
    "solarize": lambda pixels, strength: V.solarize(pixels, 255 * (1 - abs(strength))),
    "autocontrast": lambda pixels, _: V.autocontrast(pixels),
    "equalize": lambda pixels, _: V.equalize(pixels),
}


def randaugment(images: Tensor, draws: Draws, config: RandAugment) -> Tensor:
    """Cubuk et al. 2019 (arXiv:1909.13719): each uint8 [H, W, 3] of the batch through its own random operations."""
    pixels = images.permute(0, 3, 1, 2)
    strength = config.magnitude / _BINS
    for layer in range(config.operations):
        chosen = (draws.host[:, Draw.OPERATION_1 + 2 * layer] * len(OPERATIONS)).astype(np.int64)
        negative = draws.host[:, Draw.SIGN_1 + 2 * layer] < 0.5
        changed = pixels.clone()
        for number, operation in enumerate(OPERATIONS.values()):
            for sign, of_sign in ((1.0, ~negative), (-1.0, negative)):
                rows = sent(np.flatnonzero((chosen == number) & of_sign), images.device)
                if len(rows):
                    changed[rows] = operation(pixels[rows], sign * strength)
        pixels = changed
    return pixels.permute(0, 2, 3, 1)
