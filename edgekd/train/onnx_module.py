"""A float ONNX graph of a CNN as a torch module that trains, its activations and weights rounded as int8 will be.

What is trained is the graph that is shipped: its initializers are the parameters, and are written back under their own
names. Rounding passes gradients straight through (Bengio et al. 2013, arXiv:1308.3432), clipping stops them
(Jacob et al. 2018, arXiv:1712.05877).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import ModelProto, NodeProto, numpy_helper
from torch import Tensor, nn

from edgekd.errors import ModelError

_LEARNED = {"Conv", "Gemm", "MatMul"}
_MOVES = {"MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout"}
Operator = Callable[["Node", Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Step:
    """The grid of one activation: x ≈ (q - zero_point) · scale, q from `least` to `most`."""

    scale: float
    zero_point: int
    least: int
    most: int


@dataclass(frozen=True)
class Rounding:
    """How int8 will round: activations by tensor, weights by their largest value over `levels`."""

    steps: Mapping[str, Step]
    levels: int
    per_channel: bool
    in_float: frozenset[str] = frozenset()
    """Nodes whose weights stay as they are."""


@dataclass(frozen=True)
class Node:
    """One operator: its attributes by name."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute, or ONNX's default."""
        return self.attributes.get(name, default)


class OnnxModule(nn.Module):
    """The graph; `rounding` None: in float. Raises ModelError, by name, for an operator that it does not know."""

    def __init__(self, model: ModelProto, rounding: Rounding | None = None) -> None:
        super().__init__()
        self.rounding = rounding
        self._nodes = [_node(node) for node in model.graph.node]
        self._check(model)
        self._steps = _steps(self._nodes, rounding.steps) if rounding is not None else {}
        constants = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
        self._input = next(value.name for value in model.graph.input if value.name not in constants)
        self._takes_pixels = model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        self._output = model.graph.output[0].name
        learned = {name for node in self._nodes if node.kind in _LEARNED for name in node.inputs[1:]}
        self.names = sorted(name for name in learned if name in constants and constants[name].dtype == np.float32)
        self.values = nn.ParameterList([nn.Parameter(torch.from_numpy(constants[name].copy())) for name in self.names])
        fixed = {name: value for name, value in constants.items() if name not in self.names}
        self._fixed = list(fixed)
        for number, value in enumerate(fixed.values()):
            self.register_buffer(f"fixed{number}", torch.from_numpy(value.copy()))
        self._last = {name: index for index, node in enumerate(self._nodes) for name in node.inputs}

    def forward(self, images: Tensor) -> Tensor:
        """Return the first output of images [N, 3, H, W], as the graph's input wants them but for its layout."""
        return self.run(images)[self._output]

    def run(self, images: Tensor, keep: bool = False) -> dict[str, Tensor]:
        """Return the output by its name, or with `keep` every tensor."""
        given = images.permute(0, 2, 3, 1) if self._takes_pixels else images
        seen: dict[str, Tensor] = {self._input: self._on_grid(self._input, given)}
        seen |= dict(zip(self.names, self.values, strict=True))
        seen |= {name: getattr(self, f"fixed{number}") for number, name in enumerate(self._fixed)}
        for index, node in enumerate(self._nodes):
            inputs = [seen[name] for name in node.inputs if name]
            if node.kind in _LEARNED and node.inputs[1] in self.names:
                inputs[1:] = self._rounded(node, inputs[1:])
            seen[node.output] = self._on_grid(node.output, _OPERATORS[node.kind](node, inputs))
            if not keep:
                for name in node.inputs:
                    if self._last[name] == index and name != self._output:
                        seen.pop(name, None)
        return seen

    def write_back(self, model: ModelProto) -> None:
        """Give the graph's initializers the trained values, in place."""
        trained = dict(zip(self.names, self.values, strict=True))
        for value in model.graph.initializer:
            if value.name in trained:
                array = trained[value.name].detach().cpu().contiguous().numpy()
                value.CopyFrom(numpy_helper.from_array(array, value.name))

    def _check(self, model: ModelProto) -> None:
        unknown = sorted({node.kind for node in self._nodes} - set(_OPERATORS))
        if unknown:
            raise ModelError(
                f"fine-tuning does not know the operator {', '.join(unknown)}",
                f"leave out [finetune]; it knows {', '.join(sorted(_OPERATORS))}",
            )
        if len(model.graph.output) != 1:
            raise ModelError(f"fine-tuning needs one output, the graph has {len(model.graph.output)}", "leave it out")

    def _on_grid(self, name: str, value: Tensor) -> Tensor:
        step = self.rounding.steps.get(name) if self.rounding else None
        if step is None or not value.is_floating_point():
            return value
        return torch.fake_quantize_per_tensor_affine(value, step.scale, step.zero_point, step.least, step.most)

    def _rounded(self, node: Node, learned: Sequence[Tensor]) -> list[Tensor]:
        """Return the weight on its own grid, and the bias on that of the products, which int8 sums up in int32."""
        if self.rounding is None or node.name in self.rounding.in_float:
            return list(learned)
        weight, levels = learned[0], self.rounding.levels
        axis = 0 if node.kind != "MatMul" else weight.ndim - 1
        largest = weight.detach().abs()
        others = [each for each in range(weight.ndim) if each != axis]
        largest = largest.amax(others) if self.rounding.per_channel else largest.max().expand(weight.shape[axis])
        scale = largest / levels
        # A channel without weights takes the largest scale, as the quantizer is told to.
        dead = scale < torch.finfo(torch.float32).tiny
        scale = torch.where(dead, torch.where(dead.all(), torch.ones_like(scale), scale.max()), scale)
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        found = [torch.fake_quantize_per_channel_affine(weight, scale, zeros, axis, -levels, levels)]
        step = self._steps.get(node.inputs[0])
        if len(learned) > 1:
            bias = learned[1]
            products = scale * step.scale if step is not None else scale
            exact = torch.round(bias.detach().double() / products) * products
            found.append(bias + (exact - bias.detach()).float() if step is not None else bias)
        return found


def _steps(nodes: Sequence[Node], steps: Mapping[str, Step]) -> dict[str, Step]:
    """Return the grid of every tensor that has one; what only moves values passes on its input's."""
    found = dict(steps)
    for node in nodes:
        if node.kind in _MOVES and node.inputs[0] in found:
            found.setdefault(node.output, found[node.inputs[0]])
    return found


def _node(node: NodeProto) -> Node:
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    return Node(node.name, node.op_type, tuple(node.input), node.output[0], attributes)


def _convolved(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    image, weight = inputs[0], inputs[1]
    bias = inputs[2] if len(inputs) > 2 else None
    image, pads = _padded(image, node, 0.0)
    return F.conv2d(
        image, weight, bias, node.get("strides", [1, 1]), pads, node.get("dilations", [1, 1]), node.get("group", 1)
    )


def _padded(image: Tensor, node: Node, value: float) -> tuple[Tensor, tuple[int, int]]:
    """Return the image padded where its two ends differ, and the padding that both ends have."""
    if node.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ModelError(f"fine-tuning does not know the padding of {node.name}", "leave out [finetune]")
    top, left, bottom, right = node.get("pads", [0, 0, 0, 0])
    if (top, left) == (bottom, right):
        return image, (top, left)
    return F.pad(image, (left, right, top, bottom), value=value), (0, 0)


def _multiplied(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    left = inputs[0].T if node.get("transA", 0) else inputs[0]
    right = inputs[1].T if node.get("transB", 0) else inputs[1]
    product: Tensor = node.get("alpha", 1.0) * (left @ right)
    bias = node.get("beta", 1.0)
    return product + bias * inputs[2] if len(inputs) > 2 else product


def _clipped(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    low = inputs[1] if len(inputs) > 1 else node.get("min", None)
    high = inputs[2] if len(inputs) > 2 else node.get("max", None)
    return torch.clamp(inputs[0], *(None if end is None else float(end) for end in (low, high)))


def _pooled_most(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    image, pads = _padded(inputs[0], node, float("-inf"))
    ceil = bool(node.get("ceil_mode", 0))
    kernel, strides = node.get("kernel_shape", None), node.get("strides", [1, 1])
    return F.max_pool2d(image, kernel, strides, pads, node.get("dilations", [1, 1]), ceil)


def _pooled_mean(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    counted = bool(node.get("count_include_pad", 0))
    top, left, bottom, right = node.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        raise ModelError(f"fine-tuning does not know the padding of {node.name}", "leave out [finetune]")
    kernel, strides = node.get("kernel_shape", None), node.get("strides", [1, 1])
    return F.avg_pool2d(inputs[0], kernel, strides, (top, left), bool(node.get("ceil_mode", 0)), counted)


def _reshaped(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    sizes = [int(size) for size in inputs[1]]
    sizes = [
        inputs[0].shape[at] if size == 0 and not node.get("allowzero", 0) else size for at, size in enumerate(sizes)
    ]
    return inputs[0].reshape(sizes)


def _flattened(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    axis = node.get("axis", 1)
    return inputs[0].flatten(axis) if axis == 1 else inputs[0].reshape(int(np.prod(inputs[0].shape[:axis])), -1)


def _axes(node: Node, inputs: Sequence[Tensor]) -> list[int]:
    return [int(axis) for axis in (inputs[1] if len(inputs) > 1 else node.get("axes", []))]


def _averaged(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].mean(_axes(node, inputs), keepdim=bool(node.get("keepdims", 1)))


def _squeezed(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    return inputs[0].squeeze(tuple(_axes(node, inputs)))


def _unsqueezed(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    value = inputs[0]
    for axis in sorted(_axes(node, inputs)):
        value = value.unsqueeze(axis)
    return value


def _both(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    return lambda node, inputs: function(inputs[0], inputs[1])


def _alone(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda node, inputs: function(inputs[0])


_OPERATORS: dict[str, Operator] = {
    "Add": _both(operator.add),
    "AveragePool": _pooled_mean,
    "Cast": _alone(lambda value: value.float()),
    "Clip": _clipped,
    "Concat": lambda node, inputs: torch.cat(list(inputs), node.get("axis", 1)),
    "Conv": _convolved,
    "Div": _both(operator.truediv),
    "Dropout": _alone(lambda value: value),
    "Flatten": _flattened,
    "Gemm": _multiplied,
    "GlobalAveragePool": _alone(lambda value: value.mean((2, 3), keepdim=True)),
    "HardSigmoid": lambda node, inputs: (inputs[0] * node.get("alpha", 0.2) + node.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": _alone(F.hardswish),
    "Identity": _alone(lambda value: value),
    "LeakyRelu": lambda node, inputs: F.leaky_relu(inputs[0], node.get("alpha", 0.01)),
    "MatMul": _both(operator.matmul),
    "MaxPool": _pooled_most,
    "Mul": _both(operator.mul),
    "ReduceMean": _averaged,
    "Relu": _alone(F.relu),
    "Reshape": _reshaped,
    "Sigmoid": _alone(torch.sigmoid),
    "Softmax": lambda node, inputs: inputs[0].softmax(node.get("axis", -1)),
    "Squeeze": _squeezed,
    "Sub": _both(operator.sub),
    "Tanh": _alone(torch.tanh),
    "Transpose": lambda node, inputs: inputs[0].permute(node.get("perm", list(range(inputs[0].ndim))[::-1])),
    "Unsqueeze": _unsqueezed,
}
