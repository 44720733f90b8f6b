"""What a user's `protect` means: the layers at or below each path."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from torch import nn

from edgekd.errors import ModelError

_NEAREST = 5


def protected(module: nn.Module, paths: Sequence[str]) -> list[str]:
    """Return the convolutions and linear layers that stay. Raises ModelError for a path that protects none."""
    layers = dict(module.named_modules())
    found: list[str] = []
    for path in paths:
        if path not in layers:
            raise ModelError(f'prune.protect: no layer "{path}"', _near(path, layers))
        below = [
            name for name, layer in layers.items() if (name == path or name.startswith(f"{path}.")) and _is_cut(layer)
        ]
        if not below:
            raise ModelError(
                f'prune.protect: "{path}" is a {type(layers[path]).__name__} and holds nothing that is cut',
                "name a convolution, a linear layer, or what holds some",
            )
        found += below
    return found


def _near(path: str, layers: Mapping[str, nn.Module]) -> str:
    """Return the module paths that are most like an unknown one, by their whole or by their last part."""
    known = [name for name, layer in layers.items() if name and any(map(_is_cut, layer.modules()))]
    near = [name for name in known if name.rpartition(".")[2] == path.rpartition(".")[2]]
    near += difflib.get_close_matches(path, known, _NEAREST, cutoff=0.5)
    listed = list(dict.fromkeys(near))[:_NEAREST] or [name for name in known if "." not in name][:_NEAREST]
    return f"{'the nearest' if near else 'such as'}: {', '.join(listed)}"


def _is_cut(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d | nn.Linear)
