"""Convolutions and pools of one to three spatial axes, in torch, with every padding that ONNX has."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from edgekd.train.onnx_node import Node

Compute = Callable[[Sequence[Tensor]], Tensor]
_CONVOLVED = (F.conv1d, F.conv2d, F.conv3d)
_LARGEST = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
_MEAN = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


@dataclass(frozen=True)
class Window:
    """How a kernel moves over an image [N, C, ...]; each tuple has a value per spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...] | None
    """Before and after; None: as much as makes ceil(size / stride) positions."""
    odd_before: bool
    """Whether the odd element of such a padding comes first."""
    ceil: bool
    """Whether the last position may reach beyond the padding."""

    @property
    def rank(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel)

    @property
    def reach(self) -> tuple[int, ...]:
        """How far the kernel spreads."""
        return tuple(step * (size - 1) + 1 for size, step in zip(self.kernel, self.dilations, strict=True))

    @property
    def even(self) -> tuple[int, ...] | None:
        """The padding where both ends have the same, as torch's own operators take it; else None."""
        if self.pads is None or any(before != after for before, after in self.pads):
            return None
        return tuple(before for before, _ in self.pads)

    @property
    def even_for_pool(self) -> tuple[int, ...] | None:
        """The same, where torch's pools take it: up to half a kernel."""
        even = self.even
        fits = even is not None and all(2 * pad <= size for pad, size in zip(even, self.kernel, strict=True))
        return even if fits else None

    def pads_of(self, sizes: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the padding before and after of an image with these spatial sizes."""
        if self.pads is not None:
            return self.pads
        found = []
        for size, stride, reach in zip(sizes, self.strides, self.reach, strict=True):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            before = total - total // 2 if self.odd_before else total // 2
            found.append((before, total - before))
        return tuple(found)

    def overhang(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Return how far the last position reaches beyond the padding; negative: how far before its end it stops."""
        found = []
        spans = zip(sizes, self.pads_of(sizes), self.strides, self.reach, strict=True)
        for size, (before, after), stride, reach in spans:
            free = size + before + after - reach
            last = -(-free // stride) if self.ceil else free // stride
            # A position that would start in the padding behind the image is left out, as onnxruntime does.
            if self.ceil and last * stride >= size + before:
                last -= 1
            found.append(last * stride - free)
        return tuple(found)


def convolution(node: Node) -> Compute:
    """Return Conv: image [N, C, ...], weight [outputs, C / group, ...], maybe bias [outputs]."""
    weight = node.constants.get(node.inputs[1])
    kernel = weight.shape[2:] if weight is not None else node.get("kernel_shape", None)
    if kernel is None:
        raise node.refused("the shape of its kernel is not known")
    window, groups = _window(node, kernel), node.get("group", 1)
    convolve = _CONVOLVED[window.rank - 1]

    def compute(inputs: Sequence[Tensor]) -> Tensor:
        image, weight, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
        pads = window.even
        if pads is None:
            sizes = image.shape[2:]
            image, pads = _padded(image, window.pads_of(sizes), 0.0), (0,) * window.rank
        return convolve(image, weight, bias, window.strides, pads, window.dilations, groups)

    return compute


def max_pool(node: Node) -> Compute:
    """Return MaxPool of an image [N, C, ...]."""
    window = _pool_window(node)
    pool, even = _LARGEST[window.rank - 1], window.even_for_pool

    def compute(inputs: Sequence[Tensor]) -> Tensor:
        image = inputs[0]
        if even is not None:
            return pool(image, window.kernel, window.strides, even, window.dilations, window.ceil)
        sizes = image.shape[2:]
        ends = zip(window.pads_of(sizes), window.overhang(sizes), strict=True)
        image = _padded(image, [(before, after + over) for (before, after), over in ends], float("-inf"))
        return pool(image, window.kernel, window.strides, 0, window.dilations)

    return compute


def average_pool(node: Node) -> Compute:
    """Return AveragePool of an image [N, C, ...].

    The divisor is the number of elements under the kernel, those of the padding among them only with
    count_include_pad, those beyond the padding never.
    """
    window = _pool_window(node)
    counted = bool(node.get("count_include_pad", 0))
    pool, even = _MEAN[window.rank - 1], window.even_for_pool
    dilated = any(step != 1 for step in window.dilations)

    def compute(inputs: Sequence[Tensor]) -> Tensor:
        image = inputs[0]
        if even is not None and not dilated:
            return pool(image, window.kernel, window.strides, even, window.ceil, counted)
        sizes = image.shape[2:]
        pads, over = window.pads_of(sizes), [(0, end) for end in window.overhang(sizes)]
        inside = image.new_ones(1, 1, *sizes)
        sums = _summed(_padded(_padded(image, pads, 0.0), over, 0.0), window)
        return sums / _summed(_padded(_padded(inside, pads, float(counted)), over, 0.0), window)

    return compute


def _pool_window(node: Node) -> Window:
    window = _window(node, node.attributes["kernel_shape"])
    # onnxruntime 1.32 computes a negative padding then: its MaxPool fails and its AveragePool is wrong.
    if window.pads is None and any(go > size for go, size in zip(window.strides, window.kernel, strict=True)):
        raise node.refused("its auto_pad with strides beyond its kernel is not what onnxruntime computes")
    return window


def _window(node: Node, kernel: Sequence[int]) -> Window:
    rank = len(kernel)
    if not 1 <= rank <= len(_CONVOLVED):
        raise node.refused(f"its kernel has {rank} axes, and 1 to {len(_CONVOLVED)} are known")
    ones = (1,) * rank
    automatic = node.get("auto_pad", b"NOTSET")
    if automatic not in (b"NOTSET", b"VALID", b"SAME_UPPER", b"SAME_LOWER"):
        raise node.refused(f"its auto_pad {automatic.decode()} is not known")
    same, dilations = automatic.startswith(b"SAME"), tuple(node.get("dilations", ones))
    # onnxruntime 1.32: SAME ignores a pool's dilations and is refused with a convolution's; VALID is rounded up too.
    if same and max(dilations) > 1:
        raise node.refused(f"its auto_pad {automatic.decode()} with dilations is not what onnxruntime computes")
    if automatic == b"VALID" and node.get("ceil_mode", 0):
        raise node.refused("its auto_pad VALID with ceil_mode is not what onnxruntime computes")
    ends = node.get("pads", (0,) * 2 * rank) if automatic == b"NOTSET" else (0,) * 2 * rank
    return Window(
        kernel=tuple(kernel),
        strides=tuple(node.get("strides", ones)),
        dilations=dilations,
        pads=None if same else tuple(zip(ends[:rank], ends[rank:], strict=True)),
        odd_before=automatic == b"SAME_LOWER",
        ceil=bool(node.get("ceil_mode", 0)) and automatic == b"NOTSET",
    )


def _padded(image: Tensor, pads: Sequence[tuple[int, int]], value: float) -> Tensor:
    """Return an image [N, C, ...] with its spatial axes padded; below zero: cut."""
    return F.pad(image, list(itertools.chain(*reversed(pads))), value=value)


def _summed(image: Tensor, window: Window) -> Tensor:
    """Return the sum under the kernel at each of its positions: torch's own mean knows no dilation."""
    for axis, (reach, stride, dilation) in enumerate(zip(window.reach, window.strides, window.dilations, strict=True)):
        image = image.unfold(axis + 2, reach, stride)[..., ::dilation]
    return image.sum(tuple(range(-window.rank, 0)))
