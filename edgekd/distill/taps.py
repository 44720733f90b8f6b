"""Outputs of layers inside a network, by module path."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from edgekd.errors import RecipeError, did_you_mean

_Keep = Callable[[nn.Module, object, object], None]


class Taps:
    """Keeps what layers of a module gave in its last forward pass in one mode: in training, or in eval."""

    def __init__(self, module: nn.Module, paths: Iterable[str], in_training: bool) -> None:
        self._seen: dict[str, Tensor] = {}
        self._module = module
        self._in_training = in_training
        _hook(module, paths, self._keep)

    def take(self, path: str) -> Tensor:
        """Return the output of a layer as float32."""
        return self._seen[path].float()

    def _keep(self, path: str) -> _Keep:
        def keep(layer: nn.Module, inputs: object, output: object) -> None:
            # Asked of the whole: a single layer may be kept in eval (a frozen BatchNorm) while the rest trains.
            if isinstance(output, Tensor) and self._module.training is self._in_training:
                # A ReLU in place right behind would change what was seen.
                self._seen[path] = output.clone()

        return keep


@torch.no_grad()
def shapes(module: nn.Module, paths: Iterable[str], size: tuple[int, int], whose: str) -> dict[str, tuple[int, ...]]:
    """Return the shape, without the batch, that each layer gives for an image of this height and width.

    Raises RecipeError for a path that is no layer, and for a layer that gives no tensor of a batch.
    """
    paths = sorted(set(paths))
    _check(module, paths, whose)
    found: dict[str, tuple[int, ...]] = {}

    def keep_shape(path: str) -> _Keep:
        def keep(layer: nn.Module, inputs: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim >= 2 and len(output) == 2:
                found[path] = tuple(output.shape[1:])

        return keep

    handles = _hook(module, paths, keep_shape)
    module.eval()(torch.zeros(2, 3, *size))
    for handle in handles:
        handle.remove()
    for path in paths:
        if path not in found:
            raise RecipeError(
                f'the layer "{path}" of the {whose} gives nothing that a loss can compare',
                "name a layer that runs in every forward pass and returns one tensor, a row an image",
            )
    return found


def _check(module: nn.Module, paths: Iterable[str], whose: str) -> None:
    known = [name for name, _ in module.named_modules() if name]
    for path in paths:
        if path not in known:
            near = did_you_mean(path, known)
            raise RecipeError(
                f'a distillation loss names the layer "{path}", which the {whose} has not',
                f"{near}layers: {', '.join(known[:12])}{', …' if len(known) > 12 else ''}",
            )


def _hook(module: nn.Module, paths: Iterable[str], make: Callable[[str], _Keep]) -> list[RemovableHandle]:
    return [module.get_submodule(path).register_forward_hook(make(path)) for path in sorted(set(paths))]
