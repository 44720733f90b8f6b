"""The exponential moving average of a network's weights over the steps of its training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """A copy of a module that follows it: average = d · average + (1 - d) · module, buffers of floats too.

    Polyak & Juditsky 1992; d = min(decay, (1 + step) / (10 + step)), so that the random start is soon forgotten
    (as TensorFlow's ExponentialMovingAverage). torch's own AveragedModel asks the device a question every step.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False)
        self._decay = decay
        self._averages, self._values = _floats(self.module), _floats(module)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the module after step `step`, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._values, 1 - decay)


def _floats(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
