"""Constant folding: what has only constants before it becomes a constant itself."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING

import onnx
import onnx.version_converter
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from edgekd import constants
from edgekd.errors import ModelError, first_line
from edgekd.quantize.wiring import lift_constants

if TYPE_CHECKING:
    import onnx_ir

_ROOM = 2**18
"""By how many values the constants of any graph may grow; those of a large one may double."""
_DEQUANTIZES = 19
"""onnx's reference evaluator, by which the optimizer computes, has no older DequantizeLinear (1.23)."""


def fold(model: ModelProto) -> None:
    """Fold the constants of a graph, in place; what depends on data is not touched.

    What has random results stays, as does what would make much out of little, such as an Expand to a whole image.
    Raises ModelError where the constants cannot be computed.
    """
    lift_constants(model)
    graph = model.graph
    nodes = constants.computing(graph)
    if not nodes:
        return
    found = _folded(_part(model, nodes))
    made = {id(node) for node in nodes if all(name in found for name in node.output if name)}
    if not made:
        return
    kept = [node for node in graph.node if id(node) not in made]
    read = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(value for name, value in found.items() if name in read)
    constants.drop_unread(graph)


def _part(model: ModelProto, nodes: list[NodeProto]) -> ModelProto:
    """Return the nodes as a graph of their own, without inputs, whose outputs are all that they make."""
    read = {name for node in nodes for name in node.input}
    values = [value for value in model.graph.initializer if value.name in read]
    outputs = [ValueInfoProto(name=name) for node in nodes for name in node.output if name]
    graph = helper.make_graph(nodes, "constants", [], outputs, values)
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def _folded(part: ModelProto) -> dict[str, TensorProto]:
    """Return what could be computed of a graph of constants, by name."""
    before = {value.name for value in part.graph.initializer}
    try:
        part = _evaluated(part)
    except Exception as error:
        # The optimizer raises whatever its evaluators and the conversion to its own representation do.
        raise ModelError(
            f"the graph's constants cannot be folded: {first_line(error)}",
            "export the model again with constant folding, or simplify it with onnxsim first",
        ) from None
    found = {value.name: value for value in part.graph.initializer if value.name not in before}
    for value in found.values():
        # The optimizer notes here what a value was folded from.
        del value.metadata_props[:]
    return found


def _evaluated(part: ModelProto) -> ModelProto:
    # Imported late: it takes 0.3 s, and most graphs have nothing to fold.
    from onnxscript import optimizer  # noqa: PLC0415

    version = next((opset.version for opset in part.opset_import if not opset.domain), _DEQUANTIZES)
    if version < _DEQUANTIZES and any(node.op_type == "DequantizeLinear" for node in part.graph.node):
        part = onnx.version_converter.convert_version(part, _DEQUANTIZES)
    budget, left = _Budget(part.graph), len(part.graph.node) + 1
    # Once more while it gets somewhere: what a NonZero gives has no known size before it is a constant.
    while 0 < len(part.graph.node) < left:
        left = len(part.graph.node)
        _state_sizes(part.graph)
        optimizer.fold_constants(part, onnx_shape_inference=True, output_size_limit=sys.maxsize, should_fold=budget)
        lift_constants(part)
    return part


def _state_sizes(graph: GraphProto) -> None:
    """Give each result that is a constant by now its own shape; what was inferred before may be open."""
    known = {value.name: value for value in graph.initializer}
    for value in graph.output:
        if (found := known.get(value.name)) is not None:
            value.CopyFrom(helper.make_tensor_value_info(found.name, found.data_type, found.dims))


class _Budget:
    """Decides, before a node is evaluated, whether its result is small enough to be kept."""

    def __init__(self, graph: GraphProto) -> None:
        self._left = max(_ROOM, sum(math.prod(value.dims) for value in graph.initializer))

    def __call__(self, node: onnx_ir.Node) -> bool:
        """Whether a node is folded: it makes one tensor, little larger than the constants that it alone reads."""
        if len(node.outputs) != 1:
            return False  # the optimizer does not fold it, and would warn
        wanted = _size(node.outputs[0])
        if wanted is None and node.op_type == "NonZero" and (source := node.inputs[0]) is not None:
            # One index per axis of each value.
            sides = len(source.shape) if source.shape is not None else 0
            wanted = sides * (_size(source) or 0)
        if wanted is None:
            return False
        alone = [value for value in node.inputs if value is not None and len(value.uses()) == 1]
        grows = wanted - sum(_size(value) or 0 for value in dict.fromkeys(alone))
        if grows > self._left:
            return False
        self._left -= max(0, grows)
        return True


def _size(value: onnx_ir.Value) -> int | None:
    """Return the number of values of a tensor; None where it is not known."""
    if value.shape is None:
        return None
    sides = [side for side in value.shape if isinstance(side, int) and side >= 0]
    return math.prod(sides) if len(sides) == len(value.shape) else None
