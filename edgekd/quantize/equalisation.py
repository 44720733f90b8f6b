"""Cross-layer equalisation and high-bias absorption: the function stays, the ranges come nearer to one another.

Nagel, van Baalen, Blankevoort, Welling 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), sections 4.1 and 4.1.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from edgekd.quantize.wiring import Wiring, attribute, bias_of, give_bias, groups

_ROUNDS = 40
_CLOSE = 1e-3
_HOMOGENEOUS = {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten"}
"""f(s·x) = s·f(x) for s > 0, channel by channel."""


@dataclass(frozen=True)
class Pair:
    """Two layers and all that lies between them, in order; nothing else reads what the first one makes."""

    first: NodeProto
    between: tuple[NodeProto, ...]
    second: NodeProto


def pairs(wiring: Wiring) -> list[Pair]:
    """Return the pairs of layers whose channels between them can be scaled at will, in the graph's order."""
    found = []
    for node in wiring.model.graph.node:
        if wiring.weight(node) is None:
            continue
        between: list[NodeProto] = []
        reader = wiring.only_reader(node.output[0])
        while reader is not None and (reader.op_type in _HOMOGENEOUS or _is_relu6(wiring, reader)):
            between.append(reader)
            reader = wiring.only_reader(reader.output[0])
        source = between[-1].output[0] if between else node.output[0]
        if reader is not None and reader.input[0] == source and _channels_match(wiring, node, reader):
            found.append(Pair(node, tuple(between), reader))
    return found


def unclip(wiring: Wiring, found: list[Pair]) -> int:
    """Turn ReLU6 between pairs into ReLU, in place, as the paper does; return how many.

    A clip at 6 does not scale with its channels. What the graph loses by that is for the caller to measure.
    """
    count = 0
    for node in (each for pair in found for each in pair.between if each.op_type == "Clip"):
        node.op_type = "Relu"
        del node.input[1:]
        del node.attribute[:]
        count += 1
    return count


def equalise(model: ModelProto) -> int:
    """Scale the channels between layers until both sides have equal ranges, in place; return how many pairs.

    s_i = sqrt(r1_i / r2_i): the first layer's output i is divided by s_i, the second layer's input i multiplied.
    """
    wiring = Wiring(model)
    found = pairs(wiring)
    unclip(wiring, found)
    for _ in range(_ROUNDS if found else 0):
        farthest = max(_equalise(wiring, pair) for pair in found)
        if farthest < _CLOSE:
            break
    return len(found)


def absorbing(wiring: Wiring) -> list[Pair]:
    """Return the pairs whose biases may move on: a ReLU between them, and no padding behind it."""
    return [
        pair
        for pair in pairs(wiring)
        if pair.between
        and all(each.op_type == "Relu" for each in pair.between)
        and not any(attribute(pair.second, "pads", [0]))
    ]


def absorb_high_bias(model: ModelProto, low: Mapping[str, NDArray[np.float32]]) -> int:
    """Move what every value of a channel lies above zero into the next layer's bias, in place; return how many pairs.

    `low` says per tensor what nearly all values of each channel exceed (mean - 3 standard deviations, section 4.1.3):
    relu(x - c) = relu(x) - c for x > c > 0. Where the next layer pads with zeros that does not hold, and it is left.
    """
    wiring = Wiring(model)
    count = 0
    for pair in absorbing(wiring):
        shift = np.maximum(low.get(pair.second.input[0], np.zeros(1)), 0.0)
        if not shift.any():
            continue
        give_bias(wiring, pair.first, bias_of(wiring, pair.first) - shift)
        weight = wiring.weight(pair.second)
        assert weight is not None, "pairs have constant weights"
        taps = weight.reshape(*weight.shape[:2], -1).sum(2)
        gained = taps[:, 0] * shift if groups(pair.second) > 1 else taps @ shift
        give_bias(wiring, pair.second, bias_of(wiring, pair.second) + gained)
        count += 1
    return count


def _equalise(wiring: Wiring, pair: Pair) -> float:
    """Equalise one pair; return how far it was from equal, as the largest |log s|."""
    first, second = wiring.weight(pair.first), wiring.weight(pair.second)
    assert first is not None and second is not None, "pairs have constant weights"
    left, right = _ranges_out(first), _ranges_in(pair.second, second)
    alive = (left > 0) & (right > 0) & np.isfinite(left) & np.isfinite(right)
    scale = np.where(alive, np.sqrt(left / np.where(alive, right, 1)), 1.0)
    wiring.set(pair.first.input[1], first / _column(scale, first))
    give_bias(wiring, pair.first, bias_of(wiring, pair.first) / scale)
    factor = _column(scale, second) if groups(pair.second) > 1 else scale.reshape(1, -1, *[1] * (second.ndim - 2))
    wiring.set(pair.second.input[1], second * factor)
    return float(np.abs(np.log(scale)).max())


def _ranges_out(weight: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(np.abs(weight).reshape(len(weight), -1).max(1), np.float64)


def _ranges_in(node: NodeProto, weight: NDArray[np.float32]) -> NDArray[np.float64]:
    return _ranges_out(weight if groups(node) > 1 else weight.swapaxes(0, 1))


def _column(scale: NDArray[np.float64], weight: NDArray[np.float32]) -> NDArray[np.float64]:
    return scale.reshape(-1, *[1] * (weight.ndim - 1))


def _is_relu6(wiring: Wiring, node: NodeProto) -> bool:
    if node.op_type != "Clip" or len(node.input) < 3:
        return False
    low, high = wiring.constant(node.input[1]), wiring.constant(node.input[2])
    return low is not None and high is not None and float(low) == 0 and float(high) > 0


def _channels_match(wiring: Wiring, first: NodeProto, second: NodeProto) -> bool:
    """Whether output i of the first layer is input i of the second."""
    one, other = wiring.weight(first), wiring.weight(second)
    if one is None or other is None:
        return False
    width = len(one)
    if groups(second) > 1:
        return bool(groups(second) == width == len(other) and other.shape[1] == 1)
    # A Gemm behind feature maps of more than one pixel reads several inputs a channel.
    return bool(other.shape[1] == width)
