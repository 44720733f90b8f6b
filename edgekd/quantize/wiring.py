"""A graph's constants, and who makes and reads each tensor: what every repair before rounding needs to know."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper

from edgekd import constants, pooling
from edgekd.quantize import origins

Array = NDArray[np.float32]
_VALUES = {
    "value": None, "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64,
}  # fmt: skip
"""The attributes of a Constant that hold numbers, with their types; None: a tensor."""


class Wiring:
    """A view of a model; constants that are set go back into the model itself, nodes are looked up as they stand."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.outputs = {value.name for value in model.graph.output}
        self.inputs = {value.name for value in model.graph.input}
        self._initializers = {value.name: value for value in model.graph.initializer}
        shown = (*model.graph.value_info, *model.graph.input, *model.graph.output)
        self.floats = frozenset(value.name for value in shown if _is_float(value))
        """The tensors that are known to be float32."""
        self.producer: dict[str, NodeProto] = {}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.output:
                self.producer[name] = node
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def constant(self, name: str) -> Array | None:
        """Return an initializer's value, or None where the name is no initializer."""
        found = self._initializers.get(name)
        return numpy_helper.to_array(found) if found is not None else None

    def set(self, name: str, value: NDArray[Any]) -> None:
        """Give an initializer a new float32 value, or add it."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name)
        if name in self._initializers:
            self._initializers[name].CopyFrom(tensor)
            return
        self.model.graph.initializer.append(tensor)
        self._initializers[name] = self.model.graph.initializer[-1]

    def only_reader(self, name: str) -> NodeProto | None:
        """Return the one node that reads a tensor; None where several do, or the caller sees it."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs else None

    def weight(self, node: NodeProto) -> Array | None:
        """Return the weight [outputs, inputs of a group, ...] of a convolution or Gemm: constant, and its own."""
        if node.op_type not in {"Conv", "Gemm"} or len(self.readers[node.input[1]]) != 1:
            return None
        plain = not attribute(node, "transA", 0) and attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1
        if node.op_type == "Gemm" and not (plain and attribute(node, "transB", 0)):
            return None
        if attribute(node, "auto_pad", b"NOTSET") not in {b"NOTSET", b"VALID"}:
            return None  # its padding hangs on the size of the image
        if len(node.input) > 2 and node.input[2] and self.constant(node.input[2]) is None:
            return None  # its bias is computed
        return self.constant(node.input[1])

    def layers(self, grids: Container[str], in_float: Container[str]) -> list[tuple[NodeProto, Array]]:
        """Return the convolutions and Gemms that are rounded, with their weights: their input has a grid."""
        found = [(node, self.weight(node)) for node in self.model.graph.node]
        return [
            (node, weight)
            for node, weight in found
            if weight is not None and node.input[0] in grids and node.name not in in_float
        ]


def _is_float(value: ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == TensorProto.FLOAT)


def copied(model: ModelProto) -> ModelProto:
    """Return a copy that may be changed."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Return an attribute's value, or the default where the node has none."""
    for each in node.attribute:
        if each.name == name:
            return onnx.helper.get_attribute_value(each)
    return default


def groups(node: NodeProto) -> int:
    """Return the number of groups of a convolution; 1 for a Gemm."""
    return int(attribute(node, "group", 1))


@dataclass(frozen=True)
class Geometry:
    """How a convolution's kernel [C, ...] moves over its input [C, ...], per axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]
    """Before each axis, then after each."""

    def padded(self, value: NDArray[Any]) -> NDArray[Any]:
        """Return [..., H, W] with zeros around it."""
        rank = len(self.kernel)
        around = [(self.pads[axis], self.pads[rank + axis]) for axis in range(rank)]
        return np.pad(value, [(0, 0)] * (value.ndim - rank) + around)

    def positions(self, padded: tuple[int, ...]) -> tuple[int, ...]:
        """Return how many places the kernel takes, given the padded shape [..., H, W]."""
        sides = padded[-len(self.kernel) :]
        reach = [step * (size - 1) + 1 for size, step in zip(self.kernel, self.dilations, strict=True)]
        return tuple((side - far) // go + 1 for side, far, go in zip(sides, reach, self.strides, strict=True))


def geometry(node: NodeProto, weight: Array) -> Geometry:
    """Return a convolution's geometry; what its attributes leave out is ONNX's default."""
    kernel = weight.shape[2:]
    ones = [1] * len(kernel)
    strides, dilations = attribute(node, "strides", ones), attribute(node, "dilations", ones)
    return Geometry(kernel, tuple(strides), tuple(dilations), tuple(attribute(node, "pads", [0, 0] * len(kernel))))


def settle(model: ModelProto) -> None:
    """Bring a float graph without inner graphs (If, Loop) into the form that the repairs know, in place.

    Every node has a name, every constant is an initializer, a Gemm's weight is [outputs, inputs], a mean over pixels is
    a GlobalAveragePool, and BatchNorm is folded where a convolution or Gemm makes its input; such a layer has a bias.
    """
    lift_constants(model)
    _drop_identities(model)
    pooling.pool_globally(model)
    name_nodes(model)
    _turn_gemms(model)
    _flatten_gemm_biases(model)
    for node in list(model.graph.node):
        if node.op_type == "BatchNormalization":
            _fold(model, node)
    constants.drop_unread(model.graph)


def name_nodes(model: ModelProto) -> None:
    """Give every node without a name one of its own, in place: its operator and its place in the graph."""
    taken = {node.name for node in model.graph.node if node.name}
    for number, node in enumerate(model.graph.node):
        if not node.name:
            name = f"{node.op_type}_{number}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)


def lift_constants(model: ModelProto) -> None:
    """Write every Constant of numbers as an initializer, in place."""
    graph = model.graph
    kept = []
    for node in graph.node:
        found = [each for each in node.attribute if each.name in _VALUES]
        if node.op_type != "Constant" or not found:
            kept.append(node)
            continue
        value = onnx.helper.get_attribute_value(found[0])
        tensor = onnx.TensorProto()
        kind = _VALUES[found[0].name]
        tensor.CopyFrom(value if kind is None else numpy_helper.from_array(np.asarray(value, kind)))
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)


def _drop_identities(model: ModelProto) -> None:
    """Take out what only passes its input on; a graph's own input or output keeps its name."""
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    for node in list(graph.node):
        passes = node.op_type == "Identity" or (node.op_type == "Dropout" and len(node.output) == 1)
        if not passes or node.output[0] in kept:
            continue
        for other in graph.node:
            other.input[:] = [node.input[0] if name == node.output[0] else name for name in other.input]
        graph.node.remove(node)


def _turn_gemms(model: ModelProto) -> None:
    wiring = Wiring(model)
    for node in model.graph.node:
        weight = wiring.constant(node.input[1]) if node.op_type == "Gemm" and not attribute(node, "transB", 0) else None
        if weight is None or len(wiring.readers[node.input[1]]) != 1:
            continue
        wiring.set(node.input[1], weight.T)
        kept = [each for each in node.attribute if each.name != "transB"]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute("transB", 1)])


def _flatten_gemm_biases(model: ModelProto) -> None:
    """Write a Gemm's constant bias as [outputs]: ONNX takes all that broadcasts, onnxruntime's quantizer that alone."""
    wiring = Wiring(model)
    for node in model.graph.node:
        weight = wiring.weight(node) if node.op_type == "Gemm" else None
        bias = wiring.constant(node.input[2]) if weight is not None and len(node.input) > 2 else None
        if weight is not None and bias is not None and bias.shape != (len(weight),) and bias.size in {1, len(weight)}:
            give_bias(wiring, node, np.broadcast_to(bias.reshape(-1), (len(weight),)))


def _fold(model: ModelProto, norm: NodeProto) -> None:
    """Fold one BatchNorm into the convolution or Gemm before it: W' = W·γ/σ, b' = (b - μ)·γ/σ + β."""
    wiring = Wiring(model)
    conv = wiring.producer.get(norm.input[0])
    given = [wiring.constant(name) for name in norm.input[1:]]
    if conv is None or wiring.only_reader(conv.output[0]) is None:
        return
    weight = wiring.weight(conv)
    if weight is None or any(value is None for value in given):
        return
    gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in given)
    factor = gamma / np.sqrt(variance + attribute(norm, "epsilon", 1e-5))
    bias = bias_of(wiring, conv).astype(np.float64)
    wiring.set(conv.input[1], weight * factor.reshape(-1, *[1] * (weight.ndim - 1)))
    give_bias(wiring, conv, (bias - mean) * factor + beta)
    origins.merge(conv, norm)
    conv.output[0] = norm.output[0]
    model.graph.node.remove(norm)


def bias_of(wiring: Wiring, node: NodeProto) -> Array:
    """Return the bias of a convolution or Gemm; zeros where it has none. Raises KeyError for one that is computed."""
    if len(node.input) < 3 or not node.input[2]:
        weight = wiring.constant(node.input[1])
        return np.zeros(0 if weight is None else len(weight), np.float32)
    bias = wiring.constant(node.input[2])
    if bias is None:
        raise KeyError(node.input[2])
    return bias.reshape(-1)


def give_bias(wiring: Wiring, node: NodeProto, bias: NDArray[Any]) -> None:
    """Set the bias of a convolution or Gemm; one that others share becomes its own."""
    if len(node.input) < 3 or not node.input[2] or len(wiring.readers[node.input[2]]) != 1:
        name = f"{node.name}_bias"
        while wiring.constant(name) is not None:
            name += "_"
        node.input[2:] = [name]
        wiring.readers[name] = [node]
    wiring.set(node.input[2], bias)
