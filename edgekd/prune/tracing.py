"""One image of zeros through a network, watched: what runs, and on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

Hook = Callable[[nn.Module, Any, Any], None]
"""Called with a layer, the tuple of its inputs, and its output."""


@torch.no_grad()
def watch(module: nn.Module, shape: tuple[int, int], hooks: Mapping[str, Hook]) -> None:
    """Run one image [1, 3, height, width] in eval mode, calling the hook of each layer, by its path, after it ran.

    The module is left in the mode that it was in.
    """
    handles = [module.get_submodule(path).register_forward_hook(hook) for path, hook in hooks.items()]
    training = module.training
    module.eval()
    try:
        module(torch.zeros(1, 3, *shape))
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
