"""Which whole blocks may go: those that pass their input on when their own branch is silent."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.prune.tracing import Hook, watch


@dataclass
class _Seen:
    """How a module was called in one forward: the shape of a single tensor that enters and leaves alike."""

    calls: int = 0
    shapes: list[torch.Size] = field(default_factory=list)


def removable(module: nn.Module, shape: tuple[int, int], kept: Sequence[str]) -> list[str]:
    """Return the paths of the innermost blocks that can be taken out whole, in the module's order.

    A block is one whose output, with all its parameters at zero, is its (positive) input: a residual block without
    a projection, whatever its branch is made of. None that holds a layer of `kept` is named.
    """
    module.eval()
    seen = _calls(module, shape)
    layers = dict(module.named_modules())
    found: list[str] = []
    for path in sorted(seen, key=lambda each: -each.count(".")):
        holds_found = any(other.startswith(f"{path}.") for other in found)
        holds_kept = any(layer == path or layer.startswith(f"{path}.") for layer in kept)
        once = seen[path].calls == 1 and len(seen[path].shapes) == 1
        if not once or holds_found or holds_kept:
            continue
        if _passes_through(layers[path], seen[path].shapes[0]) and _runs_without(module, path, shape):
            found.append(path)
    return [path for path in layers if path in found]


def layers_in(path: str, module: nn.Module) -> tuple[str, ...]:
    """Return the paths of all modules inside a block."""
    return tuple(name for name, _ in module.named_modules() if name.startswith(f"{path}."))


def _calls(module: nn.Module, shape: tuple[int, int]) -> dict[str, _Seen]:
    """Run a zero image and note how each module that works on weights was called."""
    seen: dict[str, _Seen] = {}
    for path, layer in module.named_modules():
        works = any(isinstance(inner, nn.Conv2d | nn.Linear) for inner in layer.modules() if inner is not layer)
        if path and works:
            seen[path] = _Seen()
    watch(module, shape, {path: _noting(each) for path, each in seen.items()})
    return seen


def _noting(seen: _Seen) -> Hook:
    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        seen.calls += 1
        image: Any = inputs[0] if len(inputs) == 1 else None
        is_alike = isinstance(image, Tensor) and isinstance(output, Tensor) and image.shape == output.shape
        if is_alike and image.is_floating_point():
            seen.shapes.append(image.shape)

    return note


@torch.no_grad()
def _runs_without(module: nn.Module, path: str, shape: tuple[int, int]) -> bool:
    """Whether the forward takes nn.Identity in its place: it may look at the block, or give it more than an image."""
    block = module.get_submodule(path)
    module.set_submodule(path, nn.Identity())
    try:
        module(torch.zeros(1, 3, *shape))
    except Exception:
        return False
    finally:
        module.set_submodule(path, block)
    return True


@torch.no_grad()
def _passes_through(layer: nn.Module, shape: torch.Size) -> bool:
    silent = copy.deepcopy(layer).eval()
    for parameter in silent.parameters():
        parameter.zero_()
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return torch.equal(silent(image.clone()), image)
