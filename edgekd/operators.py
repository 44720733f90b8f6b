"""Which operators really run, after onnxruntime's own optimisation of the graph, and which of them in float."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from edgekd import runtime
from edgekd.runtime import Settings

_KERNELS = "QLinear"
_INTEGER = {"QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
"""Integer kernels that read or give floats: their scales, or sums that are converted as they are written."""
_MOVES = {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Slice", "Split", "Identity", "Pad"}
_MOVES |= {"Shape", "Gather", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "ReorderInput", "ReorderOutput"}
"""The last two change the order of channels for onnxruntime's own float convolutions."""
_ENDS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
_BYTES = {TensorProto.UINT8, TensorProto.INT8}
_NAMED = {"tensor(int64)": TensorProto.INT64, "tensor(bool)": TensorProto.BOOL}
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}


@dataclass(frozen=True)
class Ran:
    """Operators of an optimised graph with their counts, sorted by name."""

    counts: dict[str, int]
    in_float: dict[str, int]
    """Those that compute in float. Conversions and mere moves do not, nor does arithmetic on shapes."""

    @property
    def is_closed_integer(self) -> bool:
        """Whether integers go all the way from the pixels to the logits: one conversion, at the very end."""
        conversions = self.counts.get("DequantizeLinear", 0)
        return not self.in_float and not self.counts.get("QuantizeLinear", 0) and conversions == 1


def that_run(model: Path, settings: Settings) -> Ran:
    """Return the operators that run when a session is opened by the settings."""
    with TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        runtime.open_session(model, settings, optimized)
        found = onnx.load(optimized)
        return of_graph(found.graph, {opset.domain: opset.version for opset in found.opset_import})


def of_graph(graph: GraphProto, versions: Mapping[str, int]) -> Ran:
    """Return the operators of a graph as onnxruntime writes it, in the opsets {domain: version}."""
    types = _types(graph, versions)
    constants = {value.name for value in graph.initializer}
    left = [node for node in graph.node if _computes_in_float(node, types, constants)]
    return Ran(_counted(graph.node), _counted(left))


def _computes_in_float(node: NodeProto, types: Mapping[str, int], constants: set[str]) -> bool:
    if node.op_type in _INTEGER | _MOVES | _ENDS or node.op_type.startswith(_KERNELS):
        return False
    names = [name for name in (*node.input, *node.output) if name and name not in constants]
    return any(types[name] in _FLOATS for name in names)


def _types(graph: GraphProto, versions: Mapping[str, int]) -> dict[str, int]:
    """Return the type of every tensor. onnxruntime (1.32) writes none for what lies between the nodes.

    A name whose type is not known is float: better listed once too often than not at all.
    """
    types: dict[str, int] = defaultdict(lambda: TensorProto.FLOAT)
    types |= {value.name: value.data_type for value in graph.initializer}
    shown = (*graph.value_info, *graph.input, *graph.output)
    given = {value.name: value.type.tensor_type.elem_type for value in shown}
    types |= given
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name not in given:
                types[name] = _type_of(node, index, types, versions)
    return types


def _type_of(node: NodeProto, index: int, types: Mapping[str, int], versions: Mapping[str, int]) -> int:
    if node.op_type == "Cast":
        return next(int(attribute.i) for attribute in node.attribute if attribute.name == "to")
    if not onnx.defs.has(node.op_type, domain=node.domain):
        quantized = node.op_type.startswith((_KERNELS, "Nhwc")) or (node.op_type == "QGemm" and len(node.input) > 7)
        integers = [types[name] for name in node.input if types[name] in _BYTES]
        return integers[-1] if quantized and integers else TensorProto.FLOAT
    schema = onnx.defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
    wanted = schema.outputs[min(index, len(schema.outputs) - 1)].type_str
    for name, taken in zip(node.input, _repeated(schema.inputs), strict=False):
        if name and taken.type_str == wanted:
            return types[name]
    allowed = [each.allowed_type_strs for each in schema.type_constraints if each.type_param_str == wanted]
    only = allowed[0][0] if allowed and len(allowed[0]) == 1 else wanted
    return _NAMED.get(only, TensorProto.FLOAT)


def _repeated(taken: Sequence[Any]) -> Iterator[Any]:
    """Yield what an operator takes; the last one again and again, as Concat's."""
    yield from taken
    while taken:
        yield taken[-1]


def _counted(nodes: Iterable[NodeProto]) -> dict[str, int]:
    return dict(sorted(Counter(node.op_type for node in nodes).items()))
