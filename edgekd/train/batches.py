"""Batches of uint8 images: their order drawn per epoch, their augmentation per view."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from edgekd.recipe import Augment, Training
from edgekd.train import draws
from edgekd.train.augment import augment
from edgekd.train.mix import mix
from edgekd.workload import arrays


@dataclass(frozen=True)
class Examples:
    """A split in memory: images uint8 [N, H, W, 3], labels int64 [N], both on the training device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Batch:
    """What one step learns from. Of mixed images, `share` [B] is the part that is `labels`, the rest is `others`."""

    pixels: Tensor
    """uint8 [B, 3, H, W] in channels_last."""
    labels: Tensor
    """int64 [B]."""
    indices: Tensor
    """int64 [B], which images of the split; on the CPU."""
    view: int
    others: Tensor | None = None
    share: Tensor | None = None

    def on(self, device: torch.device) -> Batch:
        """Return the batch on a device; itself where it is there."""
        if self.pixels.device == device:
            return self
        moved = {
            name: value.to(device, non_blocking=True)
            for name in ("pixels", "labels", "others", "share")
            if (value := getattr(self, name)) is not None
        }
        return replace(self, **moved)


def read(split: Path, device: torch.device) -> Examples:
    """Load a prepared split: onto the device when it takes no more than half of what is free there, else on the CPU."""
    data = arrays.load(split)
    if device.type == "cuda" and data.images.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        device = torch.device("cpu")
    return Examples(torch.from_numpy(data.images).to(device), torch.from_numpy(data.labels).to(device))


def steps_per_epoch(count: int, batch: int) -> int:
    """Return how many full batches an epoch has; a set smaller than a batch is one."""
    return max(1, count // batch)


def epoch(examples: Examples, config: Training, number: int, views: int = 0) -> Iterator[Batch]:
    """Yield the batches of an epoch, in an order that seed and epoch number decide.

    Epoch `number` sees view `number` of each image, or with `views` view `number` modulo `views`.
    """
    device = examples.labels.device
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(config.seed * 1_000_003 + number))
    on_device = order.to(device)
    view = number % views if views else number
    table = draws.of_view(config.seed, view, len(examples), device)
    steps = steps_per_epoch(len(examples), config.batch)
    for step in range(steps):
        part = slice(step * config.batch, (step + 1) * config.batch)
        batch = seen(examples, order[part], on_device[part], table, view, config.augment)
        yield _mixed(batch, config, number * steps + step) if config.augment.mixes else batch


def seen(
    examples: Examples, indices: Tensor, on_device: Tensor, table: draws.Draws, view: int, config: Augment
) -> Batch:
    """Return images of a split under a view, whose draws are `table`; the indices on the host, and with the images."""
    images = augment(examples.images[on_device], table.of(indices, on_device), config)
    # NHWC memory seen as NCHW is channels_last: no copy.
    return Batch(images.permute(0, 3, 1, 2), examples.labels[on_device], indices, view)


def _mixed(batch: Batch, config: Training, step: int) -> Batch:
    mixed = mix(batch.pixels.permute(0, 2, 3, 1), config.augment, config.seed, step)
    pixels = mixed.images.permute(0, 3, 1, 2)
    return Batch(pixels, batch.labels, batch.indices, batch.view, batch.labels[mixed.partner], mixed.share)
