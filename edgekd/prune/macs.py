"""What a network costs, layer by layer: multiply-accumulates of one image, and parameters."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from edgekd.prune.tracing import Hook, watch


def per_layer(module: nn.Module, shape: tuple[int, int]) -> dict[str, int]:
    """Return the multiply-accumulates of each Conv2d and Linear for one image [1, 3, height, width], in call order."""
    counts: dict[str, int] = {}
    layers = dict(module.named_modules())
    watched = [path for path, layer in layers.items() if isinstance(layer, nn.Conv2d | nn.Linear)]
    watch(module, shape, {path: _counter(path, counts) for path in watched})
    return counts


def weights_per_layer(module: nn.Module) -> dict[str, int]:
    """Return the numbers in each layer's matrix, which grow with its inputs and with its outputs."""
    return _numbers(module, lambda parameter: parameter.ndim > 1)


def vectors_per_layer(module: nn.Module) -> dict[str, int]:
    """Return the other trained numbers of each layer, biases and norms, which grow with its outputs alone."""
    return _numbers(module, lambda parameter: parameter.ndim <= 1)


def _numbers(module: nn.Module, counts: Callable[[Tensor], bool]) -> dict[str, int]:
    found = {
        name: sum(each.numel() for each in layer.parameters(recurse=False) if each.requires_grad and counts(each))
        for name, layer in module.named_modules()
    }
    return {name: count for name, count in found.items() if count}


def _counter(name: str, counts: dict[str, int]) -> Hook:
    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            size = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels // layer.groups
        else:
            size = inputs[0].shape[-1]
        counts[name] = counts.get(name, 0) + size * output.numel()

    return count
