"""The ONNX operators that train, in torch: what a node computes is settled before anything runs, or it is refused."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor

from edgekd.errors import ModelError
from edgekd.train.onnx_node import LEAVE_OUT, Node, type_name
from edgekd.train.onnx_windows import Compute, average_pool, convolution, max_pool

Operator = Callable[[Node], Compute]
_SETTINGS_FROM = {"Clip": 1, "Dropout": 1, "ReduceMean": 1, "Reshape": 1, "Squeeze": 1, "Unsqueeze": 1}
"""The first input that says how to compute: from there on they must be initializers."""
_KEEPS_PIXELS = {"Cast", "Flatten", "Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""They do the same to pixels, which are fed as floats, as to uint8."""
_CASTABLE = {TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BOOL}
_CASTABLE |= {TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64}


def flowing(node: Node) -> tuple[str, ...]:
    """Return the inputs that a node computes with; the others say how."""
    return node.inputs[: _SETTINGS_FROM.get(node.kind)]


def computes(nodes: Sequence[Node], types: dict[str, int], output: str) -> list[Compute]:
    """Return for each node of a graph what makes its first output from the inputs that flow into it.

    `types` are the element types of the graph's input and its initializers by name; those of what the nodes make are
    added. Raises ModelError, by name, for all that is not computed as ONNX says.
    """
    unknown = sorted({node.kind for node in nodes} - set(OPERATORS))
    if unknown:
        raise ModelError(
            f"fine-tuning does not know the operator {', '.join(unknown)}",
            f"{LEAVE_OUT}; it knows {', '.join(sorted(OPERATORS))}",
        )
    read = {name for node in nodes for name in node.inputs} | {output}
    for node in nodes:
        _check_types(node, types)
        types |= dict.fromkeys(node.outputs, TensorProto.FLOAT if node.kind == "Cast" else types[node.inputs[0]])
        further = [name for name in node.outputs[1:] if name in read]
        if further:
            raise node.refused(f'its further output "{further[0]}" is read')
    if output not in types:
        raise ModelError(f'fine-tuning finds nothing that makes the output "{output}"', LEAVE_OUT)
    return [OPERATORS[node.kind](node) for node in nodes]


def _check_types(node: Node, types: dict[str, int]) -> None:
    allowed = {TensorProto.FLOAT} | ({TensorProto.UINT8} if node.kind in _KEEPS_PIXELS else set())
    allowed |= _CASTABLE if node.kind == "Cast" else set()
    for name in flowing(node):
        if name not in types:
            raise node.refused(f'it reads "{name}", which is made by no node before it')
        if types[name] not in allowed:
            raise node.refused(f"it computes with {type_name(types[name])}")


def _alone(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda node: lambda inputs: function(inputs[0])


def _both(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def build(node: Node) -> Compute:
        if node.opset < 7 and "axis" in node.attributes:
            raise node.refused(f"it broadcasts along an axis, as only opset {node.opset} does")
        return lambda inputs: function(inputs[0], inputs[1])

    return build


def _cast(node: Node) -> Compute:
    kind = node.attributes["to"]
    if kind not in (TensorProto.FLOAT, b"FLOAT"):
        raise node.refused(f"it makes {kind.decode() if isinstance(kind, bytes) else type_name(kind)}")
    return lambda inputs: inputs[0].float()


def _clip(node: Node) -> Compute:
    if node.opset < 11:
        low, high = node.get("min", None), node.get("max", None)
    else:
        low, high = (None if end is None else float(end.item()) for end in (node.constant(1), node.constant(2)))
    if low is None and high is None:
        return lambda inputs: inputs[0]
    return lambda inputs: torch.clamp(inputs[0], low, high)


def _concatenate(node: Node) -> Compute:
    axis = node.get("axis", 1)
    return lambda inputs: torch.cat(list(inputs), axis)


def _dropout(node: Node) -> Compute:
    """Return what it is outside of training: nothing."""
    if node.opset < 7:
        drops = not node.get("is_test", 0)
    else:
        mode = node.constant(2)
        drops = mode is not None and bool(mode.item())
    if drops:
        ratio = node.get("ratio", None) if node.opset < 12 else node.constant(1)
        if ratio is None or float(ratio) != 0:
            raise node.refused("it is in training mode", f"export the network in eval mode, or {LEAVE_OUT}")
    return lambda inputs: inputs[0]


def _flat(value: Tensor, axis: int) -> Tensor:
    return value.reshape(math.prod(value.shape[:axis]), math.prod(value.shape[axis:]))


def _flatten(node: Node) -> Compute:
    axis = node.get("axis", 1)
    return lambda inputs: _flat(inputs[0], axis)


def _gemm(node: Node) -> Compute:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    turned = node.get("transA", 0), node.get("transB", 0)

    def compute(inputs: Sequence[Tensor]) -> Tensor:
        left, right = (value.T if turn else value for value, turn in zip(inputs, turned, strict=False))
        product: Tensor = alpha * (left @ right)
        return product + beta * inputs[2] if len(inputs) > 2 else product

    return compute


def _hard_sigmoid(node: Node) -> Compute:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    return lambda inputs: (inputs[0] * alpha + beta).clamp(0, 1)


def _leaky_relu(node: Node) -> Compute:
    alpha = node.get("alpha", 0.01)
    return lambda inputs: F.leaky_relu(inputs[0], alpha)


def _normalise(node: Node) -> Compute:
    """Return BatchNormalization with the mean and variance that it was given."""
    if node.get("training_mode", 0) or (node.opset < 7 and not node.get("is_test", 0)):
        raise node.refused("it is in training mode", f"export the network in eval mode, or {LEAVE_OUT}")
    if not node.get("spatial", 1):
        raise node.refused("it has a mean for every pixel")
    epsilon = node.get("epsilon", 1e-5)

    def compute(inputs: Sequence[Tensor]) -> Tensor:
        image, scale, bias, mean, variance = inputs
        return F.batch_norm(image, mean, variance, scale, bias, eps=epsilon)

    return compute


def _axes(node: Node, input_since: int) -> list[int] | None:
    """Return the axes of a node, an attribute before an opset and an input from it on; None where there are none."""
    axes = node.get("axes", None) if node.opset < input_since else node.constant(1)
    return [int(axis) for axis in axes] if axes is not None and len(axes) else None


def _reduce_mean(node: Node) -> Compute:
    axes, keep = _axes(node, input_since=18), bool(node.get("keepdims", 1))
    if axes is None and node.get("noop_with_empty_axes", 0):
        return lambda inputs: inputs[0]
    return lambda inputs: inputs[0].mean(axes or tuple(range(inputs[0].ndim)), keepdim=keep)


def _reshape(node: Node) -> Compute:
    shape = node.get("shape", None) if node.opset < 5 else node.constant(1)
    if shape is None:
        raise node.refused("it has no shape")
    sizes, copies = [int(size) for size in shape], not node.get("allowzero", 0)
    return lambda inputs: inputs[0].reshape(
        [inputs[0].shape[at] if size == 0 and copies else size for at, size in enumerate(sizes)]
    )


def _softmax(node: Node) -> Compute:
    if node.opset >= 13:
        axis = node.get("axis", -1)
        return lambda inputs: inputs[0].softmax(axis)
    # It was over all axes from this one on.
    first = node.get("axis", 1)
    return lambda inputs: _flat(inputs[0], first).softmax(1).reshape(inputs[0].shape)


def _squeeze(node: Node) -> Compute:
    axes = _axes(node, input_since=13)
    if axes is None:
        return lambda inputs: inputs[0].squeeze()
    return lambda inputs: inputs[0].squeeze(tuple(axes))


def _transpose(node: Node) -> Compute:
    order = node.get("perm", None)
    return lambda inputs: inputs[0].permute(order or tuple(reversed(range(inputs[0].ndim))))


def _unsqueeze(node: Node) -> Compute:
    axes = _axes(node, input_since=13) or []

    def compute(inputs: Sequence[Tensor]) -> Tensor:
        value = inputs[0]
        # They count the axes of the result.
        for axis in sorted(axis % (inputs[0].ndim + len(axes)) for axis in axes):
            value = value.unsqueeze(axis)
        return value

    return compute


OPERATORS: dict[str, Operator] = {
    "Add": _both(operator.add),
    "AveragePool": average_pool,
    "BatchNormalization": _normalise,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concatenate,
    "Conv": convolution,
    "Div": _both(operator.truediv),
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _alone(lambda value: value.mean(tuple(range(2, value.ndim)), keepdim=True)),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _alone(F.hardswish),
    "Identity": _alone(lambda value: value),
    "LeakyRelu": _leaky_relu,
    "MatMul": _both(operator.matmul),
    "MaxPool": max_pool,
    "Mul": _both(operator.mul),
    "ReduceMean": _reduce_mean,
    "Relu": _alone(F.relu),
    "Reshape": _reshape,
    "Sigmoid": _alone(torch.sigmoid),
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": _both(operator.sub),
    "Tanh": _alone(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
