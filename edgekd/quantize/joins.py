"""Which nodes behind a graph's last layers stay in float: those that bring values of very different size together.

A detector's export ends in arithmetic on coordinates and a Concat of boxes (0-320) with scores (0-1). With one scale
for both, a step is 1.25 and every score becomes 0 or 1.25. Behind the last layer integers save next to nothing, so
there such arithmetic stays in float, and what enters it keeps the qparams of the layer that made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto
from pydantic import BaseModel, ConfigDict

from edgekd.quantize.channels import APART, channel_axis
from edgekd.quantize.feed import Feed
from edgekd.quantize.observing import tensor_session, values_of
from edgekd.quantize.wiring import Wiring, attribute

_LEARNED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_DECODING = 32
"""A layer of at most this many weights is arithmetic, such as YOLOv8's expectation over box distances, a Conv of 16."""
_SUMS = frozenset({"Add", "Sub"})
_JOINS = _SUMS | {"Concat", "Mul", "Div", "Where"}
_SMALL_AXIS = 1024
_BATCH = 8


class Join(BaseModel):
    """A node behind the last layers, and the largest magnitudes of the largest and the smallest thing it joins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    node: str
    largest: float
    smallest: float


class Spans:
    """The largest magnitudes of one tensor: of all its values, and of each channel."""

    def __init__(self, axis: int | None) -> None:
        self.whole = 0.0
        self.channels: NDArray[np.float64] | None = None
        self._axis = axis

    def add(self, value: NDArray[np.float32]) -> None:
        """Take a batch into account."""
        if not value.size:
            return
        magnitude = np.abs(value)
        self.whole = max(self.whole, float(magnitude.max()))
        axis = channel_axis(value.shape) if self._axis is None else self._axis % value.ndim
        if axis and value.shape[axis] <= _SMALL_AXIS:
            found = magnitude.max(tuple(other for other in range(value.ndim) if other != axis)).astype(np.float64)
            known = self.channels if self.channels is not None and len(self.channels) == len(found) else 0.0
            self.channels = np.maximum(found, known)


def tail_of(wiring: Wiring) -> list[NodeProto]:
    """Return the nodes behind the last layers, in the graph's order: no layer worth integers comes after them."""
    reaches: set[int] = set()
    found = []
    for node in reversed(wiring.model.graph.node):
        readers = [reader for name in node.output for reader in wiring.readers.get(name, [])]
        before_layer = any(id(reader) in reaches for reader in readers)
        if before_layer or _is_layer(node, wiring):
            reaches.add(id(node))
        else:
            found.append(node)
    return found[::-1]


def mixed(model: ModelProto, tail: list[NodeProto], feed: Feed) -> tuple[Join, ...]:
    """Return the nodes of the tail that join, add or multiply values of very different size, by the feed's samples."""
    wiring = Wiring(model)
    floats = wiring.floats
    joins = [node for node in tail if node.op_type in _JOINS and node.output[0] in floats]
    spans = _spans(model, joins, feed)
    found = []
    for node in joins:
        sizes = [size for size in _sizes(node, wiring, spans) if size > 0]
        if sizes and max(sizes) > APART * min(sizes):
            found.append(Join(node=node.name, largest=max(sizes), smallest=min(sizes)))
    return tuple(found)


def around(wiring: Wiring, tail: list[NodeProto], joins: Iterable[Join]) -> frozenset[str]:
    """Return the names of the tail's nodes that stay in float: the joins, all behind them, and all that leads there."""
    names = {join.node for join in joins}
    behind = set(names)
    for node in tail:
        if any(_name_of(wiring, name) in behind for name in node.input):
            behind.add(node.name)
    before = set(names)
    for node in reversed(tail):
        if any(reader.name in before for name in node.output for reader in wiring.readers.get(name, [])):
            before.add(node.name)
    return frozenset(behind | before)


def _name_of(wiring: Wiring, tensor: str) -> str:
    producer = wiring.producer.get(tensor)
    return producer.name if producer is not None else ""


def _is_layer(node: NodeProto, wiring: Wiring) -> bool:
    weight = wiring.constant(node.input[1]) if node.op_type in _LEARNED else None
    return weight is not None and weight.size > _DECODING


def _spans(model: ModelProto, joins: list[NodeProto], feed: Feed) -> dict[str, Spans]:
    wiring = Wiring(model)
    axes: dict[str, int | None] = {}
    for node in joins:
        for name in node.input:
            if name in wiring.floats and wiring.constant(name) is None:
                axes.setdefault(name, None)
        axes[node.output[0]] = attribute(node, "axis", 1) if node.op_type == "Concat" else None
    found = {name: Spans(axis) for name, axis in axes.items()}
    if not found:
        return found
    session = tensor_session(model, list(found))
    for _, inputs in feed.batches_for(session, _BATCH):
        for name, value in values_of(session, list(found), inputs).items():
            found[name].add(value)
    return found


def _sizes(node: NodeProto, wiring: Wiring, spans: Mapping[str, Spans]) -> list[float]:
    """Return the magnitudes of all that one node brings together.

    A sum loses what varies and is small beside the other part; what a product of channels loses shows in its channels.
    """
    made = spans[node.output[0]].channels
    sizes = [] if made is None else [float(each) for each in made]
    if node.op_type not in _SUMS | {"Concat"}:
        return sizes
    parts = [(wiring.constant(name), spans.get(name)) for name in node.input if name]
    varying = [span.whole for constant, span in parts if constant is None and span is not None]
    fixed = [np.abs(constant.astype(np.float64)) for constant, _ in parts if constant is not None and constant.size]
    if node.op_type == "Concat":
        return [*sizes, *varying, *(float(each.max()) for each in fixed)]
    # Positions that are added to offsets: each is a part of its own.
    for positions in (each[each > 0] for each in fixed if each.size > 1):
        sizes += [float(end(positions)) for end in (np.min, np.max) if positions.size]
    largest = max([*varying, *(float(each.max()) for each in fixed)], default=0.0)
    return [*sizes, largest, *varying]
