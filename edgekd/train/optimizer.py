"""SGD with Nesterov momentum, whose weight decay spares norms and biases."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from edgekd.recipe import Training


def optimizer_of(modules: Iterable[nn.Module], config: Training) -> torch.optim.SGD:
    """Return the optimizer over all that these modules train, in one fused kernel on a GPU."""
    trained = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    spared = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    fused = bool(trained) and all(parameter.is_cuda for parameter in trained)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=fused)
