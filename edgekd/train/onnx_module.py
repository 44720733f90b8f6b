"""A float ONNX graph of a CNN as a torch module that trains, its activations and weights rounded as int8 will be.

What is trained is the graph that is shipped: its initializers are the parameters, and are written back under their own
names. Rounding passes gradients straight through (Bengio et al. 2013, arXiv:1308.3432), clipping stops them
(Jacob et al. 2018, arXiv:1712.05877).
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from onnx import ModelProto, TensorProto, ValueInfoProto, numpy_helper
from torch import Tensor, nn

from edgekd.errors import ModelError
from edgekd.train.onnx_node import LEAVE_OUT, Node, nodes_of, type_name
from edgekd.train.onnx_operators import computes, flowing

_ROUNDED = {"Conv", "Gemm", "MatMul"}
_LEARNED = _ROUNDED | {"BatchNormalization"}
_MOVES = {"MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout"}


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


class OnnxModule(nn.Module):
    """The graph; `rounding` None: in float. Raises ModelError, by name, for what would not be computed as ONNX says."""

    def __init__(self, model: ModelProto, rounding: Rounding | None = None) -> None:
        super().__init__()
        self.rounding = rounding
        constants = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
        types = {value.name: value.data_type for value in model.graph.initializer}
        given = _input_of(model, constants)
        self._input, self._takes_pixels = given.name, given.type.tensor_type.elem_type == TensorProto.UINT8
        self._output = _output_of(model)
        nodes = nodes_of(model, constants)
        self._computes = computes(nodes, types | {self._input: given.type.tensor_type.elem_type}, self._output)
        # Their constants are read by now, and would only be held twice.
        self._nodes = [replace(node, inputs=flowing(node), constants={}) for node in nodes]
        self._steps = _steps(self._nodes, rounding.steps) if rounding is not None else {}
        # Not the third and fourth of a BatchNormalization: they are what was seen, not what is learned.
        learned = {name for node in self._nodes if node.kind in _LEARNED for name in node.inputs[1:3]}
        self.names = sorted(name for name in learned if name in constants and constants[name].dtype == np.float32)
        self.values = nn.ParameterList([nn.Parameter(torch.from_numpy(constants[name].copy())) for name in self.names])
        # torch holds no types of fewer than 8 bits, nor strings; no node computes with them.
        held = {name: value for name, value in constants.items() if value.dtype.kind in "biuf"}
        self._fixed = [name for name in held if name not in self.names]
        for number, name in enumerate(self._fixed):
            self.register_buffer(f"fixed{number}", torch.from_numpy(held[name].copy()))
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
        for index, (node, compute) in enumerate(zip(self._nodes, self._computes, strict=True)):
            inputs = [seen[name] for name in node.inputs]
            if node.kind in _ROUNDED and node.inputs[1] in self.names:
                inputs[1:] = self._rounded(node, inputs[1:])
            seen[node.output] = self._on_grid(node.output, compute(inputs))
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
        axis = _channel_axis(node)
        # As the quantizer does: a weight without that axis, a vector, has one scale, and so has a stack of matrices.
        has_channels = axis < weight.ndim and (node.kind != "MatMul" or weight.ndim == 2)
        per_channel, axis = self.rounding.per_channel and has_channels, min(axis, weight.ndim - 1)
        largest = weight.detach().abs()
        others = [each for each in range(weight.ndim) if each != axis]
        largest = largest.amax(others) if per_channel else largest.max().expand(weight.shape[axis])
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


def _channel_axis(node: Node) -> int:
    """Return the axis of a weight that has a scale per index, as onnxruntime's quantizer takes it."""
    return int(node.kind == "MatMul" or (node.kind == "Gemm" and not node.get("transB", 0)))


def _input_of(model: ModelProto, constants: Container[str]) -> ValueInfoProto:
    """Return the graph's one input: float32, or uint8 pixels [N, H, W, C]. Raises ModelError for any other."""
    given = [value for value in model.graph.input if value.name not in constants]
    if len(given) != 1:
        raise ModelError(f"fine-tuning needs one input, the graph has {len(given)}", LEAVE_OUT)
    found: ValueInfoProto = given[0]
    kind = found.type.tensor_type
    if kind.elem_type not in (TensorProto.FLOAT, TensorProto.UINT8):
        what = type_name(kind.elem_type) if found.type.HasField("tensor_type") else "no tensor"
        raise ModelError(f'fine-tuning needs an input of FLOAT or UINT8, "{found.name}" is {what}', LEAVE_OUT)
    if kind.elem_type == TensorProto.UINT8 and len(kind.shape.dim) != 4:
        raise ModelError(f'fine-tuning needs UINT8 pixels [N, H, W, C], "{found.name}" has other axes', LEAVE_OUT)
    return found


def _output_of(model: ModelProto) -> str:
    """Return the name of the graph's one output. Raises ModelError for more or none."""
    if len(model.graph.output) != 1:
        raise ModelError(f"fine-tuning needs one output, the graph has {len(model.graph.output)}", LEAVE_OUT)
    return str(model.graph.output[0].name)
