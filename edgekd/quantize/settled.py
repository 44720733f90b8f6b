"""A float graph made ready: settled, its shapes inferred, its pixels absorbed, with how it is fed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto

from edgekd import constants, front
from edgekd.errors import ModelError
from edgekd.quantize.entry import Entry
from edgekd.quantize.observing import tensors_of
from edgekd.quantize.wiring import Wiring, copied, groups, settle

_MODEL = "model.onnx"
_ENTRY = "entry.json"
_QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QGemm", "QLinearMatMul"}
_QUANTIZED |= {"ConvInteger", "MatMulInteger"}


@dataclass(frozen=True)
class Settled:
    """A float graph that observing, repairs and rounding work on."""

    model: ModelProto
    entry: Entry

    @cached_property
    def tensors(self) -> list[str]:
        """The activations that get a grid of their own."""
        graph = self.model.graph
        shown = (*graph.value_info, *graph.input, *graph.output)
        floats = frozenset(value.name for value in shown if value.type.tensor_type.elem_type == TensorProto.FLOAT)
        in_front = {name for node in front.nodes_of(self.model) for name in (*node.input, *node.output)[:-1]}
        return [name for name in tensors_of(Wiring(self.model), floats) if name not in in_front]

    @cached_property
    def in_float(self) -> frozenset[str]:
        """The nodes that stay in float in any case: a front's, and those that onnxruntime's quantizer trips over."""
        wiring, graph = Wiring(self.model), self.model.graph
        shown = {value.name for value in (*graph.value_info, *graph.input, *graph.output)}
        # No type is known behind an operator of another domain; a ConvTranspose in groups lies otherwise.
        tripping = [
            node.name
            for node in graph.node
            if (node.op_type == "ConvTranspose" and groups(node) > 1)
            or any(name and name not in shown and wiring.constant(name) is None for name in node.input)
        ]
        return frozenset(node.name for node in front.nodes_of(self.model)) | frozenset(tripping)

    def save(self, folder: Path) -> None:
        """Write the graph and its entry."""
        folder.mkdir()
        onnx.save(self.model, folder / _MODEL)
        (folder / _ENTRY).write_text(self.entry.model_dump_json(indent=1), encoding="utf-8")


def load(folder: Path) -> Settled:
    """Read what `save` wrote."""
    entry = Entry.model_validate_json((folder / _ENTRY).read_text(encoding="utf-8"))
    return Settled(onnx.load(folder / _MODEL), entry)


def settled(model: ModelProto, entry: Entry | None) -> Settled:
    """Return the graph made ready, its float front absorbed where that can be; the model given is not changed.

    `entry` says how it is fed; None: pixels, into the front that `export` put on. Raises ModelError for a graph that
    is quantized already, or has nothing that can be.
    """
    check(model)
    own = copied(model)
    if entry is None:
        absorption = front.absorb(own)
        entry = Entry(kind="pixels", name=front.IMAGE)
        if absorption is not None:
            entry = Entry(
                kind="absorbed", name=front.ABSORBED, scale=absorption.scale, zero_point=absorption.zero_point,
                exact=absorption.exact,
            )  # fmt: skip
    # Its shapes say which means are over pixels, and after it which tensors are of floats.
    own = onnx.shape_inference.infer_shapes(own)
    settle(own)
    return Settled(onnx.shape_inference.infer_shapes(own), entry)


def check(model: ModelProto) -> None:
    """Raise ModelError for a graph that is quantized already, or has no operator that can be."""
    kinds = {node.op_type for node in model.graph.node}
    if found := sorted(kinds & _QUANTIZED):
        raise ModelError(
            f"the graph is quantized already: it has {', '.join(found)}", "give the float model that it was made from"
        )
    if constants.has_subgraph(model.graph):
        raise ModelError(
            "the graph has branches or loops (If, Loop), whose inner graphs read its tensors by name",
            'simplify it to one without, or ship it in float: quantize.precision = "float"',
        )
    if any(value.data_type == TensorProto.FLOAT16 for value in model.graph.initializer):
        raise ModelError("the graph is float16", "give the float32 model that it was made from")
    if not kinds & {"Conv", "ConvTranspose", "Gemm", "MatMul"}:
        raise ModelError(
            f"the graph has no operator that int8 would make faster (it has {', '.join(sorted(kinds))})",
            'ship it as it is, or set quantize.precision = "float"',
        )
