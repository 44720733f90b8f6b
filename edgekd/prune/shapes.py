"""The shapes of a network's layers, and what they cost by a table of latencies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch import Tensor, nn

from edgekd.latency import Layer, Table
from edgekd.prune.tracing import Hook, watch


def layers_of(module: nn.Module, shape: tuple[int, int], calls: Counter[str] | None = None) -> dict[str, Layer]:
    """Return each Conv2d and Linear that runs on an image [1, 3, height, width], by its path, in call order.

    `calls` counts how often each ran; one that is called on images of several sizes is taken as the last.
    """
    found: dict[str, Layer] = {}
    counted = calls if calls is not None else Counter()
    watched = [path for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    watch(module, shape, {path: _noting(path, found, counted) for path in watched})
    return found


@dataclass(frozen=True)
class Looked:
    """The price of a layer in a table, as pruning asks for it."""

    table: Table
    path: str
    inputs: int
    outputs: int
    calls: int = 1

    def __call__(self, inputs: float, outputs: float) -> float:
        """Return microseconds when these parts (0-1) of the inputs and outputs are left."""
        return self.calls * self.table.at(self.path, inputs * self.inputs, outputs * self.outputs)


def prices(module: nn.Module, shape: tuple[int, int], table: Table) -> dict[str, Looked]:
    """Return what each layer of a network costs; the table is of this network, or of the one that it was cut from."""
    calls: Counter[str] = Counter()
    layers = layers_of(module, shape, calls)
    return {path: Looked(table, path, layer.inputs, layer.outputs, calls[path]) for path, layer in layers.items()}


def _noting(path: str, found: dict[str, Layer], calls: Counter[str]) -> Hook:
    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls[path] += 1
        if isinstance(layer, nn.Linear):
            found[path] = Layer(kind="linear", inputs=layer.in_features, outputs=layer.out_features)
        elif isinstance(layer, nn.Conv2d):
            found[path] = _of_convolution(layer, inputs[0])

    return note


def depthwise(layer: nn.Conv2d) -> bool:
    """Whether each channel has a group of its own, and makes one."""
    return layer.groups == layer.in_channels == layer.out_channels and layer.groups > 1


def _of_convolution(layer: nn.Conv2d, image: Tensor) -> Layer:
    is_depthwise = depthwise(layer)
    # "same" and "valid" are strings; "same" keeps the size with half of the kernel around.
    given = layer.padding
    same = tuple((size - 1) * step // 2 for size, step in zip(layer.kernel_size, layer.dilation, strict=True))
    padding = given if not isinstance(given, str) else same if given == "same" else (0, 0)
    return Layer(
        kind="depthwise" if is_depthwise else "conv",
        inputs=layer.in_channels,
        outputs=layer.out_channels,
        groups=1 if is_depthwise else layer.groups,
        kernel=(layer.kernel_size[0], layer.kernel_size[1]),
        stride=(layer.stride[0], layer.stride[1]),
        padding=(int(padding[0]), int(padding[1])),
        dilation=(layer.dilation[0], layer.dilation[1]),
        size=(int(image.shape[-2]), int(image.shape[-1])),
    )
