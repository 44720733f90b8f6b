"""Layers written in several nodes become one: MatMul and Add are a Gemm, an Add of a constant is a layer's bias.

Keras, Paddle and tf2onnx write every Dense as MatMul and Add. As one node it has a bias, which repairs can shift, and
onnxruntime adds it in int32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from edgekd.quantize import origins, shapes
from edgekd.quantize.wiring import Array, Wiring, attribute, give_bias


def fuse(model: ModelProto) -> None:
    """Fuse what can be, in place. The graph's shapes are inferred, its constants folded and its nodes named."""
    _write_gemms(model)
    for node in list(model.graph.node):
        if node.op_type == "Add":
            _absorb(model, node)


def _write_gemms(model: ModelProto) -> None:
    """Write a MatMul of a matrix and a constant one as Gemm; one of more axes stays, as Gemm has no such form."""
    wiring = Wiring(model)
    for node in model.graph.node:
        if node.op_type != "MatMul" or shapes.rank(model.graph, node.input[0]) != 2:
            continue
        weight = wiring.constant(node.input[1])
        if weight is not None and weight.ndim == 2 and weight.dtype == np.float32:
            node.op_type = "Gemm"


def _absorb(model: ModelProto, add: NodeProto) -> None:
    """Let a constant that is added to the result of a layer be part of the layer's bias."""
    wiring = Wiring(model)
    for made, other in (add.input, reversed(add.input)):
        layer, constant = wiring.producer.get(made), wiring.constant(other)
        if layer is None or constant is None or wiring.only_reader(made) is None:
            continue
        weight = _weight(layer, wiring)
        bias = _bias(layer, weight, wiring) if weight is not None else None
        added = _per_output(constant, weight) if weight is not None else None
        if bias is None or added is None:
            continue
        give_bias(wiring, layer, bias + added)
        origins.merge(layer, add)
        layer.output[0] = add.output[0]
        model.graph.node.remove(add)
        return


def _weight(layer: NodeProto, wiring: Wiring) -> Array | None:
    """Return the constant weight of a convolution or Gemm, [outputs, ...]; None for another node."""
    if layer.op_type not in {"Conv", "Gemm"}:
        return None
    weight = wiring.constant(layer.input[1])
    if weight is None or weight.dtype != np.float32 or layer.op_type == "Conv":
        return weight
    if attribute(layer, "alpha", 1.0) != 1 or attribute(layer, "beta", 1.0) != 1:
        return None
    return weight if attribute(layer, "transB", 0) else weight.T


def _bias(layer: NodeProto, weight: Array, wiring: Wiring) -> NDArray[Any] | None:
    """Return a layer's bias, float64 [outputs], zeros where it has none; None where it is computed or a matrix."""
    if len(layer.input) < 3 or not layer.input[2]:
        return np.zeros(len(weight))
    bias = wiring.constant(layer.input[2])
    if bias is None or bias.size not in {1, len(weight)}:
        return None
    return np.broadcast_to(bias.reshape(-1).astype(np.float64), len(weight))


def _per_output(constant: Array, weight: Array) -> NDArray[Any] | None:
    """Return what is added to each output of a layer, float64 [outputs]; None where it differs within an output."""
    rank = weight.ndim
    if constant.ndim > rank:
        return None
    sides = (1,) * (rank - constant.ndim) + constant.shape
    if sides[1] not in {1, len(weight)} or constant.size != sides[1]:
        return None
    return np.broadcast_to(constant.reshape(-1).astype(np.float64), len(weight))
