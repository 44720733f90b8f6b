"""Augmentation of a whole batch of uint8 images at once, each image by its own draws."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.recipe import Augment
from edgekd.train.draws import Draw, Draws
from edgekd.train.randaugment import randaugment

_GREY = 128
# ITU-R 601, as torchvision weighs red, green and blue.
_LUMA = (0.2989, 0.587, 0.114)


def augment(images: Tensor, draws: Draws, config: Augment) -> Tensor:
    """Return uint8 [B, H, W, 3] under the recipe: turned and zoomed, cropped and mirrored, recoloured, cut out."""
    if config.rotate or config.scale:
        images = _turn(images, draws, config)
    images = _shift(images, draws, config.crop, config.flip)
    if config.randaugment is not None:
        images = randaugment(images, draws, config.randaugment)
    if config.colour:
        images = _recolour(images, draws, config.colour)
    if config.cutout:
        images = _cut_out(images, draws, config.cutout)
    return images


def _shift(images: Tensor, draws: Draws, crop: int, flip: bool) -> Tensor:
    """Shift each image by up to `crop` pixels, black coming in, and mirror half of them."""
    if not crop and not flip:
        return images
    count, height, width, _ = images.shape
    rows = np.broadcast_to(np.arange(height), (count, height))
    columns = np.broadcast_to(np.arange(width), (count, width))
    if flip:
        columns = np.where(draws[:, Draw.FLIP, None] < 0.5, columns[:, ::-1], columns)
    if crop:
        rows = rows + _whole(draws, Draw.ROW, 2 * crop + 1)
        columns = columns + _whole(draws, Draw.COLUMN, 2 * crop + 1)
        images = F.pad(images, (0, 0, crop, crop, crop, crop))
    # One flat index over all pixels: three times as fast as indexing by image, row and column.
    padded = images.shape[1] * images.shape[2]
    index = np.arange(count)[:, None, None] * padded + rows[:, :, None] * images.shape[2] + columns[:, None, :]
    flat = images.reshape(count * padded, -1)
    return flat[torch.from_numpy(index).to(images.device)]


def _turn(images: Tensor, draws: Draws, config: Augment) -> Tensor:
    """Rotate and zoom about the middle, bilinear, black coming in."""
    _, height, width, _ = images.shape
    angle = (2 * draws[:, Draw.ANGLE] - 1) * math.radians(config.rotate)
    zoom = 1 + (2 * draws[:, Draw.ZOOM] - 1) * config.scale
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    nothing = np.zeros_like(cosine)
    # From where each pixel comes, in coordinates that go from -1 to 1 along either side.
    rows = [[cosine, -sine * (height / width), nothing], [sine * (width / height), cosine, nothing]]
    theta = torch.from_numpy(np.stack([np.stack(row, 1) for row in rows], 1).astype(np.float32)).to(images.device)
    pixels = images.permute(0, 3, 1, 2).float()
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return _to_bytes(F.grid_sample(pixels, grid, align_corners=False).permute(0, 2, 3, 1))


def _recolour(images: Tensor, draws: Draws, colour: float) -> Tensor:
    """Scale brightness, then contrast about the image's mean grey, then saturation about each pixel's grey."""

    def factor(column: Draw) -> Tensor:
        values = 1 + (2 * draws[:, column] - 1) * np.float32(colour)
        return torch.from_numpy(values).to(images.device)[:, None, None, None]

    pixels = (images.float() * factor(Draw.BRIGHTNESS)).clamp_(0, 255)
    mean = _grey(pixels).mean((1, 2, 3), keepdim=True)
    pixels = torch.lerp(mean, pixels, factor(Draw.CONTRAST)).clamp_(0, 255)
    return _to_bytes(torch.lerp(_grey(pixels), pixels, factor(Draw.SATURATION)))


def _grey(pixels: Tensor) -> Tensor:
    return (pixels * pixels.new_tensor(_LUMA)).sum(3, keepdim=True)


def _cut_out(images: Tensor, draws: Draws, side: int) -> Tensor:
    """Grey out a square whose middle may lie anywhere in the image."""
    _, height, width, _ = images.shape

    def hit(column: Draw, length: int) -> Tensor:
        start = _whole(draws, column, length) - side // 2
        position = np.arange(length)
        return torch.from_numpy((position >= start) & (position < start + side)).to(images.device)

    square = hit(Draw.CUTOUT_ROW, height)[:, :, None, None] & hit(Draw.CUTOUT_COLUMN, width)[:, None, :, None]
    return images.masked_fill(square, _GREY)


def _whole(draws: Draws, column: Draw, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return a number out of 0..count-1 an image, as a column."""
    return (draws[:, column, None] * count).astype(np.int64)


def _to_bytes(pixels: Tensor) -> Tensor:
    return pixels.round().clamp_(0, 255).to(torch.uint8)
