"""What lies under each weight of a layer on average: bias correction multiplies the error of the weights by it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from edgekd.quantize.wiring import Array, Geometry, Wiring, geometry, groups


def patch_means(model: ModelProto, tensors: list[str]) -> dict[str, PatchMean]:
    """Return a mean to add to for each convolution and Gemm whose input is observed, by the node's name."""
    wiring, found = Wiring(model), {}
    for node in model.graph.node:
        weight = wiring.weight(node)
        if weight is not None and node.input[0] in tensors:
            found[node.name] = PatchMean(node, weight)
    return found


class PatchMean:
    """The mean over images and positions of what lies under each weight of one layer."""

    def __init__(self, node: NodeProto, weight: Array) -> None:
        self.source = node.input[0]
        self._shape = geometry(node, weight) if node.op_type == "Conv" else None
        self._sum: NDArray[np.float64] | None = None
        self._images = 0
        self._before: list[tuple[int, NDArray[np.float64]]] = []
        """Images and mean of each shape that is done."""

    def add(self, value: NDArray[np.float32]) -> None:
        """Add a batch of the layer's input. Batches of one shape follow one another."""
        # A batch is few enough for float32; batches add up in float64.
        total = value.sum(0)
        if self._sum is not None and self._sum.shape != total.shape:
            self._before.append((self._images, self._of_one_shape(self._sum)))
            self._sum, self._images = None, 0
        self._sum = total.astype(np.float64) if self._sum is None else np.add(self._sum, total, out=self._sum)
        self._images += len(value)

    def mean(self) -> NDArray[np.float64]:
        """Return [inputs, kernel height, kernel width] of a convolution, [inputs] of a Gemm."""
        assert self._sum is not None, "a feed holds at least one image"
        parts = [*self._before, (self._images, self._of_one_shape(self._sum))]
        if len(parts) == 1:
            return parts[0][1]
        return np.asarray(sum(images * mean for images, mean in parts) / sum(images for images, _ in parts))

    def _of_one_shape(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        mean = total / self._images
        return mean if self._shape is None else under_taps(mean, self._shape)


def under_taps(mean: NDArray[np.float64], shape: Geometry) -> NDArray[np.float64]:
    """Return the mean over output positions of what lies under each tap: [C, H, W] -> [C, kernel height, width].

    Zero where a tap lies in the padding.
    """
    padded = shape.padded(mean)
    positions = shape.positions(padded.shape)
    taps = np.empty((len(mean), *shape.kernel))
    for tap in np.ndindex(*shape.kernel):
        window = tuple(
            slice(at * step, at * step + stride * (count - 1) + 1, stride)
            for at, step, stride, count in zip(tap, shape.dilations, shape.strides, positions, strict=True)
        )
        taps[(slice(None), *tap)] = padded[(slice(None), *window)].mean(tuple(range(1, mean.ndim)))
    return taps


def per_input(patch: NDArray[np.float64], node: NodeProto, outputs: int) -> NDArray[np.float64]:
    """Return a layer's mean patch as its weight is laid out, [outputs, inputs of a group, ...]."""
    parts = np.stack(np.split(patch, groups(node)))
    return np.repeat(parts, outputs // groups(node), axis=0)
