"""What a user's `protect` means: the layers at or below each path."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from edgekd.errors import ModelError, did_you_mean


def protected(module: nn.Module, paths: Sequence[str]) -> list[str]:
    """Return the convolutions and linear layers that stay. Raises ModelError for a path that protects none."""
    layers = dict(module.named_modules())
    found: list[str] = []
    for path in paths:
        if path not in layers:
            raise ModelError(
                f'prune.protect: no layer "{path}"', did_you_mean(path, layers).strip() or "see the model's modules"
            )
        below = [
            name
            for name, layer in layers.items()
            if (name == path or name.startswith(f"{path}.")) and isinstance(layer, nn.Conv2d | nn.Linear)
        ]
        if not below:
            raise ModelError(
                f'prune.protect: "{path}" is a {type(layers[path]).__name__} and holds nothing that is cut',
                "name a convolution, a linear layer, or what holds some",
            )
        found += below
    return found
