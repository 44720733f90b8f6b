"""Batches of uint8 images: order, crop and mirror drawn per epoch, applied to the whole batch at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.recipe import Training
from edgekd.workload import arrays


@dataclass(frozen=True)
class Examples:
    """A split in memory: images uint8 [N, H, W, 3], labels int64 [N], both on the training device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def read(split: Path, device: torch.device) -> Examples:
    """Load a prepared split onto the device."""
    data = arrays.load(split)
    return Examples(torch.from_numpy(data.images).to(device), torch.from_numpy(data.labels).to(device))


def steps_per_epoch(count: int, batch: int) -> int:
    """Return how many full batches an epoch has; a set smaller than a batch is one."""
    return max(1, count // batch)


def epoch(examples: Examples, config: Training, number: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (pixels uint8 [B, 3, H, W] in channels_last, labels [B]) in an order that seed and epoch number decide."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + number)
    order = torch.randperm(len(examples), generator=generator).to(examples.labels.device)
    for step in range(steps_per_epoch(len(examples), config.batch)):
        indices = order[step * config.batch : (step + 1) * config.batch]
        pixels = augment(examples.images[indices], config.crop, config.flip, generator)
        # NHWC memory seen as NCHW is channels_last: no copy.
        yield pixels.permute(0, 3, 1, 2), examples.labels[indices]


def augment(images: Tensor, crop: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Shift each image by up to `crop` pixels (black comes in), and mirror half of them; uint8 [B, H, W, C]."""
    count, height, width, _ = images.shape
    device = images.device
    rows = torch.arange(height).expand(count, height)
    columns = torch.arange(width).expand(count, width)
    if flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    if crop:
        rows = rows + torch.randint(0, 2 * crop + 1, (count, 1), generator=generator)
        columns = columns + torch.randint(0, 2 * crop + 1, (count, 1), generator=generator)
        images = F.pad(images, (0, 0, crop, crop, crop, crop))
    number = torch.arange(count, device=device)
    return images[number[:, None, None], rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
