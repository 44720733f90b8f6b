"""What the network loses without some channels or a block, measured: the Kullback-Leibler divergence of its answers.

Li et al. 2016 (arXiv:1608.08710, section 3.2) cut a layer at a time and look; NetAdapt (Yang et al. 2018,
arXiv:1804.03230) does so for steps of measured latency. Here nothing is cut: channels are silenced in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekd.models.channels import Group
from edgekd.prune.candidates import Shape

_POINTS = 4
"""Widths of a group that are measured; between them damage is interpolated."""
_WORK = 2.5e12
"""Multiply-accumulates of all measurements together: a large network is asked about fewer images."""
_LEAST = 8


class Sensitivity:
    """A network and the answers it gives to some images. The module's weights come back as they were."""

    def __init__(self, module: nn.Module, batches: Sequence[Tensor], half: bool) -> None:
        """Take normalised images, float [B, 3, H, W] a batch; `half`: compute in bf16 where torch's autocast does."""
        self._module = module.eval().to(memory_format=torch.channels_last)
        self._batches = [batch.contiguous(memory_format=torch.channels_last) for batch in batches]
        self._half = half
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                # Statistics of the batch, as the cut network's will be estimated anew; its own stay as they are.
                layer.train()
                layer.momentum = 0.0
        self._answers = [F.log_softmax(each, 1) for each in self._logits()]

    @staticmethod
    def images_for(macs: int, groups: int, blocks: int, most: int) -> int:
        """Return how many images to measure on: `most`, or fewer where they would take too long."""
        return int(min(most, max(_LEAST, _WORK // (macs * (_POINTS * groups + blocks + 1)))))

    def of_group(
        self, group: Group, order: NDArray[np.int64], shape: Shape, original: int | None = None
    ) -> NDArray[np.float64]:
        """Return the damage of losing the first n channels of the order, float64 [width + 1], never falling.

        `original` is the group's width before any cut, of which the shape's floor is a part.
        """
        widths = shape.of(group).all(group.width, original or group.width)
        if not widths:
            return np.zeros(group.width + 1)
        few = sorted({widths[index] for index in np.linspace(0, len(widths) - 1, _POINTS).round().astype(int)})
        counts, damages = [0], [0.0]
        for width in reversed(few):
            with self._silent(group, order[: group.width - width]):
                damages.append(self._damage())
            counts.append(group.width - width)
        found = np.interp(np.arange(group.width + 1), counts, np.maximum.accumulate(damages))
        return np.asarray(found, np.float64)

    def of_block(self, path: str) -> float:
        """Return the damage of losing a block whole."""
        block = self._module.get_submodule(path)
        self._module.set_submodule(path, nn.Identity())
        try:
            return self._damage()
        finally:
            self._module.set_submodule(path, block)

    @torch.inference_mode()
    def _logits(self) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self._half):
            return [self._module(batch).float() for batch in self._batches]

    def _damage(self) -> float:
        """Return the mean divergence from the whole network's answers, in nats."""
        total = 0.0
        for logits, answer in zip(self._logits(), self._answers, strict=True):
            total += float(F.kl_div(F.log_softmax(logits, 1), answer, reduction="sum", log_target=True))
        return max(0.0, total / sum(len(batch) for batch in self._batches))

    @contextmanager
    def _silent(self, group: Group, channels: NDArray[np.int64]) -> Iterator[None]:
        """Set to zero what makes these channels, and put it back."""
        kept: list[tuple[Tensor, Tensor]] = []
        for member in group.members:
            if member.side == "out":
                layer = self._module.get_submodule(member.layer)
                indices = torch.tensor(group.indices(member, channels.tolist()), dtype=torch.int64)
                for parameter in layer.parameters(recurse=False):
                    kept.append((parameter, parameter.detach().clone()))
                    parameter.data[indices] = 0
        try:
            yield
        finally:
            # Backwards: a layer that stands in the group twice was kept twice.
            for tensor, before in reversed(kept):
                tensor.data.copy_(before)
