"""Half precision, for providers without int8 kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper
from onnx_ir.passes.common import (
    LiftConstantsToInitializersPass,
    LiftSubgraphInitializersToMainGraphPass,
    NameFixPass,
    RemoveUnusedNodesPass,
)
from onnxruntime.transformers.float16 import convert_float_to_float16

from edgekd import constants, front, runtime
from edgekd.errors import ModelError, first_line
from edgekd.quantize.feed import Feed
from edgekd.quantize.observing import tensor_session, values_of
from edgekd.quantize.wiring import copied
from edgekd.runtime import Settings

_IMAGES = 16
_MOST = float(np.finfo(np.float16).max)
_LARGEST = _MOST / 4
"""Of values that were looked at: other images may give some a few times as large."""


@dataclass(frozen=True)
class Half:
    """A graph in float16, and the names of the nodes that stay in float32 because float16 cannot hold their values."""

    model: ModelProto
    beyond: tuple[str, ...]


def to_half(model: ModelProto, feed: Feed) -> Half:
    """Return the graph in float16; its inputs and outputs keep their types, so that the app sees no difference.

    The front stays in float32: pixels minus mean need more than 11 bits. So does every node that reads or makes values
    near or beyond 65504, the largest float16, by its constants and by some images of the feed; what branches and loops
    make inside is not looked at. The nodes of the result are sorted. Raises ModelError for a graph that cannot be
    converted.
    """
    shaped = _prepared(model)
    large = _large_constants(shaped) | _large_tensors(shaped, feed)
    if large and constants.has_subgraph(shaped.graph):
        # The converter (onnxruntime 1.32) leaves a kept node's inner graph in float32, and what it reads in float16.
        raise ModelError(
            f'float16 cannot hold the values of "{min(large)}", and branches or loops cannot stay in float32',
            'set quantize.precision = "float"',
        )
    beyond = [node.name for node in shaped.graph.node if not large.isdisjoint([*node.input, *node.output])]
    kept = [*(node.name for node in front.nodes_of(shaped)), *beyond]
    half = convert_float_to_float16(shaped, keep_io_types=True, node_block_list=kept, disable_shape_infer=True)
    return Half(_checked(_sorted(half), model), tuple(beyond))


def _prepared(model: ModelProto) -> ModelProto:
    """Return a copy as the converter needs it: each node with a name, constants as initializers, types stated.

    Nodes are kept by name; of a Constant's attributes it converts tensors only (onnxruntime 1.32); and it finds where
    float16 meets float32 by the types, which a graph need not carry, but takes every initializer that has one for
    float16.
    """
    # A tensor's name is changed in the proto that it came from (onnx-ir 1.1).
    own = ir.from_proto(copied(model))
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(own)
    LiftSubgraphInitializersToMainGraphPass()(own)
    NameFixPass()(own)
    shaped = onnx.shape_inference.infer_shapes(ir.to_proto(own))
    initializers = {value.name for value in shaped.graph.initializer}
    infos = [info for info in shaped.graph.value_info if info.name not in initializers]
    del shaped.graph.value_info[:]
    shaped.graph.value_info.extend(infos)
    return shaped


def _large_constants(model: ModelProto) -> set[str]:
    """Return the constants that float16 cannot hold; the converter would cut them off at 65504 without a word."""
    floats = [value for value in model.graph.initializer if value.data_type == TensorProto.FLOAT]
    return {value.name for value in floats if _most(numpy_helper.to_array(value)) > _MOST}


def _large_tensors(model: ModelProto, feed: Feed) -> set[str]:
    """Return the float tensors that come near what float16 holds; one image at a time, to spare memory."""
    infos = (*model.graph.value_info, *model.graph.output)
    floats = {info.name for info in infos if info.type.tensor_type.elem_type == TensorProto.FLOAT}
    tensors = [name for node in model.graph.node for name in node.output if name in floats]
    session = tensor_session(model, tensors)
    found: set[str] = set()
    for _, inputs in feed.few(_IMAGES, model).batches_for(session, 1):
        found |= {name for name, value in values_of(session, tensors, inputs).items() if _most(value) > _LARGEST}
    return found


def _most(values: NDArray[np.float32]) -> float:
    """Return the largest finite magnitude: infinity is a value of float16 too."""
    return float(np.abs(values).max(initial=0.0, where=np.isfinite(values)))


def _sorted(half: ModelProto) -> ModelProto:
    """Return the graph without the detours of float32 through float16, its nodes sorted.

    The converter (onnxruntime 1.32) rounds whatever passes between two nodes that stay in float32, and appends its
    Casts at the end.
    """
    model = ir.from_proto(half)
    for node in model.graph:
        narrow = node.inputs[0].producer() if _casts(node, ir.DataType.FLOAT) and node.inputs[0] is not None else None
        if narrow is not None and _casts(narrow, ir.DataType.FLOAT16):
            _skip(narrow.inputs[0], node.outputs[0])
    model.graph.sort()
    RemoveUnusedNodesPass()(model)
    return ir.to_proto(model)


def _casts(node: ir.Node, to: ir.DataType) -> bool:
    return node.op_type == "Cast" and node.attributes["to"].as_int() == to


def _skip(source: ir.Value | None, rounded: ir.Value) -> None:
    """Let all that reads a float32 value rounded to float16 read the value itself."""
    if source is None or source.dtype != ir.DataType.FLOAT:
        return
    if not rounded.is_graph_output():
        ir.convenience.replace_all_uses_with(rounded, source)
    elif source.producer() is not None and not source.is_graph_output():
        name, source.shape = rounded.name, rounded.shape
        ir.convenience.replace_all_uses_with(rounded, source, replace_graph_outputs=True)
        rounded.name, source.name = f"{name}_rounded", name


def _checked(half: ModelProto, model: ModelProto) -> ModelProto:
    """Return a graph that is valid, runs, and takes and gives what the float32 one does. Raises ModelError."""
    try:
        onnx.checker.check_model(half, full_check=True)
        runtime.open_model(half, Settings())
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ModelError) as error:
        raise ModelError(
            f"the graph cannot be converted to float16: {first_line(error)}", 'set quantize.precision = "float"'
        ) from None
    assert _ends(half) == _ends(model), "the converter keeps the types of inputs and outputs"
    return half


def _ends(model: ModelProto) -> list[tuple[str, int]]:
    ends = (*model.graph.input, *model.graph.output)
    return [(value.name, value.type.tensor_type.elem_type) for value in ends]
