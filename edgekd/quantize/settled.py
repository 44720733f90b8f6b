"""A float graph made ready: settled, its shapes inferred, its pixels absorbed, with how it is fed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto, TensorProto
from pydantic import BaseModel, ConfigDict

from edgekd import constants, front
from edgekd.errors import ModelError
from edgekd.quantize import folding, fusing, origins, shapes
from edgekd.quantize.entry import Entry, of_pixels
from edgekd.quantize.feed import Feed
from edgekd.quantize.joins import Join, around, mixed, tail_of
from edgekd.quantize.observing import tensors_of
from edgekd.quantize.wiring import Wiring, copied, groups, name_nodes, settle

_MODEL = "model.onnx"
_ENTRY = "entry.json"
_KEPT = "float.json"
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QGemm", "QLinearMatMul"}
_QUANTIZED |= {"ConvInteger", "MatMulInteger"}
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


class Kept(BaseModel):
    """The nodes that stay in float in any case, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    named: tuple[str, ...] = ()
    """Those that the user named."""
    joins: tuple[Join, ...] = ()
    """What brings values of very different size together behind the last layers."""
    around: tuple[str, ...] = ()
    """The joins, and what leads to them and follows them behind the last layers."""


@dataclass(frozen=True)
class Settled:
    """A float graph that observing, repairs and rounding work on."""

    model: ModelProto
    entry: Entry
    kept: Kept = field(default_factory=Kept)

    @cached_property
    def tensors(self) -> list[str]:
        """The activations that get a grid of their own."""
        in_front = {name for node in front.nodes_of(self.model) for name in (*node.input, *node.output)[:-1]}
        return [name for name in tensors_of(Wiring(self.model), self.in_float) if name not in in_front]

    @cached_property
    def in_float(self) -> frozenset[str]:
        """The nodes that stay in float in any case: kept, a front's, and what onnxruntime's quantizer trips over."""
        wiring, graph = Wiring(self.model), self.model.graph
        shown = {value.name for value in (*graph.value_info, *graph.input, *graph.output)}
        # No type is known behind an operator of another domain; a ConvTranspose in groups lies otherwise.
        tripping = [
            node.name
            for node in graph.node
            if (node.op_type == "ConvTranspose" and groups(node) > 1)
            or any(name and name not in shown and wiring.constant(name) is None for name in node.input)
        ]
        in_front = (node.name for node in front.nodes_of(self.model))
        return frozenset((*in_front, *tripping, *self.kept.named, *self.kept.around))

    def save(self, folder: Path) -> None:
        """Write the graph and its entry."""
        folder.mkdir()
        onnx.save(self.model, folder / _MODEL)
        (folder / _ENTRY).write_text(self.entry.model_dump_json(indent=1), encoding="utf-8")
        (folder / _KEPT).write_text(self.kept.model_dump_json(indent=1), encoding="utf-8")


def load(folder: Path) -> Settled:
    """Read what `save` wrote."""
    entry = Entry.model_validate_json((folder / _ENTRY).read_text(encoding="utf-8"))
    kept = Kept.model_validate_json((folder / _KEPT).read_text(encoding="utf-8"))
    return Settled(onnx.load(folder / _MODEL), entry, kept)


def settled(model: ModelProto, entry: Entry | None) -> Settled:
    """Return the graph made ready, its float front absorbed where that can be; the model given is not changed.

    `entry` says how it is fed; None: pixels, into the front that `export` put on. Raises ModelError for a graph that
    is quantized already, or has nothing that can be.
    """
    check(model)
    own = copied(model)
    name_nodes(own)
    origins.mark(own)
    folding.fold(own)
    constants.drop_unneeded(own.graph)
    constants.part_outputs(own.graph)
    if entry is None:
        absorption = front.absorb(own)
        entry = of_pixels()
        if absorption is not None:
            entry = Entry(
                kind="absorbed", name=front.ABSORBED, scale=absorption.scale, zero_point=absorption.zero_point,
                exact=absorption.exact,
            )  # fmt: skip
    # Its shapes say which means are over pixels, and after it which tensors are of floats.
    shapes.infer(own)
    fusing.fuse(own)
    settle(own)
    shapes.infer(own)
    return Settled(own, entry)


def kept_in_float(found: Settled, feed: Feed, patterns: Sequence[str]) -> Settled:
    """Return the graph with the nodes that stay in float in any case: those named, and joins behind the last layers.

    `patterns` are names, or globs, of nodes of the file as it came. Raises ModelError for one that matches nothing.
    """
    wiring = Wiring(found.model)
    tail = tail_of(wiring)
    joins = mixed(found.model, tail, feed)
    named = origins.matching(found.model, patterns)
    return replace(found, kept=Kept(named=named, joins=joins, around=tuple(sorted(around(wiring, tail, joins)))))


def check(model: ModelProto) -> None:
    """Raise ModelError for a graph that is quantized already, or has no operator that can be.

    The nodes of the graph are sorted. Those that no output needs do not count, nor do those that are folded.
    """
    folded = constants.computing(model.graph)
    names = {name for node in folded for name in node.output}
    nodes = [node for node in constants.needed(model.graph) if not names.issuperset(node.output)]
    kinds = {node.op_type for node in nodes}
    if found := sorted(kinds & _QUANTIZED):
        raise ModelError(
            f"the graph is quantized already: it has {', '.join(found)}", "give the float model that it was made from"
        )
    if constants.has_subgraph(model.graph):
        raise ModelError(
            "the graph has branches or loops (If, Loop), whose inner graphs read its tensors by name",
            "simplify it to one without, or ship it in float: --set quantize.precision=float",
        )
    read = {name for node in nodes for name in node.input}
    if any(value.data_type == TensorProto.FLOAT16 and value.name in read for value in model.graph.initializer):
        raise ModelError("the graph is float16", "give the float32 model that it was made from")
    if not kinds & _LAYERS:
        kept = f"it has {', '.join(sorted(kinds))}" if kinds else "its outputs are inputs or constants"
        raise ModelError(
            f"the graph has no operator that int8 would make faster ({kept})",
            "ship it in float: --set quantize.precision=float",
        )
    _check_weights(model, nodes)


def _check_weights(model: ModelProto, nodes: list[NodeProto]) -> None:
    empty = {value.name for value in model.graph.initializer if 0 in value.dims}
    for node in nodes:
        if node.op_type in _LAYERS and (found := sorted(empty.intersection(node.input))):
            raise ModelError(
                f'the weight "{found[0]}" of the {node.op_type} "{node.name}" has no values',
                "was it pruned to nothing, or exported for no classes? give the model that is meant",
            )
