"""The front of a graph: the few nodes between camera pixels and what the network was trained on.

The float front is Cast, Transpose, Sub, Mul: `image` uint8 [N, H, W, 3] -> (pixel - mean) / std, float [N, 3, H, W].
Absorbed, it is a Transpose alone: the first convolution's weights take the scale and its bias takes the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgekd import constants
from edgekd.errors import ModelError
from edgekd.workload.normalisation import Normalisation

IMAGE = "image"
LOGITS = "logits"
ABSORBED = "front_pixels"
"""The float input of a graph whose front is absorbed, until its pixels enter as integers."""
_PREFIX = "front_"
_NORMALISED = "front_normalised"
_PIXELS_LAST, _PIXELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


@dataclass(frozen=True)
class Absorption:
    """The pixels of an absorbed front as the network's quantized input: (pixel - zero_point) * scale."""

    scale: float
    zero_point: int
    exact: bool
    """Whether zero padding means the same as before: one common, whole mean."""


def put_on(model: ModelProto, normalisation: Normalisation) -> None:
    """Put the float front before the graph's one input, float [N, C, H, W]; the input becomes `image` [N, H, W, C].

    A graph of one channel takes the first mean and the first standard deviation.
    """
    graph = model.graph
    old = graph.input[0]
    channels = old.type.tensor_type.shape.dim[1].dim_value
    mean = np.array(normalisation.mean[:channels], np.float32).reshape(1, channels, 1, 1)
    scale = (1.0 / np.array(normalisation.std[:channels], np.float64)).astype(np.float32).reshape(1, channels, 1, 1)
    nodes = [
        helper.make_node("Transpose", [IMAGE], ["front_nchw"], name="front_transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["front_nchw"], ["front_float"], name="front_cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["front_float", "front_mean"], ["front_centred"], name="front_sub"),
        helper.make_node("Mul", ["front_centred", "front_scale"], [_NORMALISED], name="front_mul"),
    ]
    for node in graph.node:
        node.input[:] = [_NORMALISED if name == old.name else name for name in node.input]
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *body])
    graph.initializer.extend(
        [numpy_helper.from_array(mean, "front_mean"), numpy_helper.from_array(scale, "front_scale")]
    )
    _take(model, IMAGE, TensorProto.UINT8, _PIXELS_LAST)


def nodes_of(model: ModelProto) -> list[NodeProto]:
    """Return the nodes of the float front; empty where there is none."""
    found = _find(model)
    return found.nodes if found else []


def absorb(model: ModelProto) -> Absorption | None:
    """Take the float front off and fold it into the first convolution, in place; None where that cannot be.

    The graph's input becomes the float tensor `front_pixels` [N, C, H, W], to be fed (pixel - zero_point) * scale.
    With p = (u - Z)·s and x = (u - m_c)/d_c: W'[:, c] = W[:, c] / (s·d_c), b' = b + Σ W[:, c]·(Z - m_c)/d_c.
    """
    found = _find(model)
    values = {value.name: value for value in model.graph.initializer}
    if found is None or len(found.readers) != 1 or not _is_plain_convolution(found.readers[0], found.output, values):
        return None
    conv = found.readers[0]
    zero_point = round(float(np.clip(found.mean.mean(), 0, 255)))
    # A power of two near 1 / standard deviation: this part of the fold is exact in float.
    scale = float(2.0 ** np.round(np.log2(found.factor.mean()))) if (found.factor != 1).any() else 2.0**-6
    weight = numpy_helper.to_array(values[conv.input[1]]).astype(np.float64)
    bias = numpy_helper.to_array(values[conv.input[2]]).astype(np.float64) if len(conv.input) > 2 else 0.0
    shift = (weight * ((zero_point - found.mean) * found.factor)[None, :, None, None]).sum(axis=(1, 2, 3))
    _set(model, conv, weight * (found.factor / scale)[None, :, None, None], bias + shift)
    _take_off(model, found)
    return Absorption(scale, zero_point, exact=bool(np.allclose(found.mean, zero_point, atol=1e-4)))


def pixels_enter(model: ModelProto) -> None:
    """In a quantized absorbed graph, replace the input's QuantizeLinear by a Transpose of the pixels themselves."""
    graph = model.graph
    old = graph.input[0].name
    quantize = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == old]
    if len(quantize) != 1:
        raise ModelError("the quantizer left the graph's input in float", "this is a bug of edgekd; please report it")
    entry = helper.make_node("Transpose", [IMAGE], [quantize[0].output[0]], perm=[0, 3, 1, 2])
    rest = [node for node in graph.node if node is not quantize[0]]
    rest = [node for node in rest if node.output[0] != quantize[0].output[0]]
    del graph.node[:]
    graph.node.extend([entry, *rest])
    _take(model, IMAGE, TensorProto.UINT8, _PIXELS_LAST)


def shape_of(model: ModelProto) -> tuple[int, int]:
    """Return height and width of a graph whose input is `image` [N, H, W, 3]."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return dims[1].dim_value, dims[2].dim_value


def as_input(pixels: NDArray[np.uint8], absorption: Absorption) -> NDArray[np.float32]:
    """Return pixels [N, H, W, C] as an absorbed float graph wants them, float32 [N, C, H, W]."""
    centred = pixels.astype(np.float32) - np.float32(absorption.zero_point)
    return np.ascontiguousarray((centred * np.float32(absorption.scale)).transpose(0, 3, 1, 2))


@dataclass(frozen=True)
class _Front:
    """The float front as it stands in a graph: (pixel - mean) * factor, float64, per channel or one for all.

    onnxsim folds the Mul into the convolution behind it; then the factor is 1.
    """

    nodes: list[NodeProto]
    output: str
    readers: list[NodeProto]
    mean: NDArray[np.float64]
    factor: NDArray[np.float64]


def _find(model: ModelProto) -> _Front | None:
    """Follow the pixels through Transpose, Cast, Sub and Mul by constants; None where no Cast is met."""
    values = {
        value.name: numpy_helper.to_array(value) for value in model.graph.initializer if value.name.startswith(_PREFIX)
    }
    nodes: list[NodeProto] = []
    name, mean, factor = IMAGE, np.zeros(1), np.ones(1)
    while True:
        readers = [node for node in model.graph.node if name in node.input]
        if len(readers) != 1 or not readers[0].name.startswith(_PREFIX):
            break
        node = readers[0]
        if node.op_type == "Sub":
            mean = values[node.input[1]].reshape(-1).astype(np.float64)
        elif node.op_type == "Mul":
            factor = values[node.input[1]].reshape(-1).astype(np.float64)
        nodes.append(node)
        name = node.output[0]
    return _Front(nodes, name, readers, mean, factor) if nodes else None


def _is_plain_convolution(node: NodeProto, source: str, values: dict[str, TensorProto]) -> bool:
    attributes = {attribute.name: attribute for attribute in node.attribute}
    grouped = "group" in attributes and attributes["group"].i != 1
    constant = all(name in values for name in node.input[1:])
    return node.op_type == "Conv" and node.input[0] == source and constant and not grouped


def _set(model: ModelProto, conv: NodeProto, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
    """Give one convolution new weights and the new input."""
    conv.input[:] = [ABSORBED, "front_weight", "front_bias"]
    model.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), "front_weight"))
    model.graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), "front_bias"))


def _take_off(model: ModelProto, found: _Front) -> None:
    """Remove the front's nodes and every constant that nobody reads any more; the input is float again."""
    graph = model.graph
    front = {node.name for node in found.nodes}
    body = [node for node in graph.node if node.name not in front]
    del graph.node[:]
    graph.node.extend(body)
    constants.drop_unread(graph)
    stale = [value for value in graph.value_info if not value.name.startswith(_PREFIX)]
    del graph.value_info[:]
    graph.value_info.extend(stale)
    _take(model, ABSORBED, TensorProto.FLOAT, _PIXELS_FIRST)


def _take(model: ModelProto, name: str, kind: int, order: tuple[int, ...]) -> None:
    """Give the graph another input, whose axes are those of the old one in another order: open ones stay open."""
    dims = [model.graph.input[0].type.tensor_type.shape.dim[axis] for axis in order]
    # None stays what it is: an axis that is open and has no name.
    sizes = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in dims]
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info(name, kind, sizes))
