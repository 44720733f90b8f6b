"""How much memory the tensors of a graph take, told from shapes alone: running it to find out would take as much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import onnx
from onnx import ModelProto

from edgekd.quantize.feed import Inputs
from edgekd.quantize.wiring import copied

_FLOAT_BYTES = 4


def bytes_of(model: ModelProto, tensors: Sequence[str], inputs: Inputs) -> dict[str, int]:
    """Return the bytes of float tensors for one batch of inputs; one of unknown shape counts as the largest known."""
    fed = copied(model)
    del fed.graph.value_info[:]
    for value in (*fed.graph.input, *fed.graph.output):
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, inputs[value.name].shape if value.name in inputs else (), strict=False):
            dim.Clear()
            dim.dim_value = size
    shown = onnx.shape_inference.infer_shapes(fed, data_prop=True).graph
    shapes = {
        value.name: value.type.tensor_type.shape.dim for value in (*shown.value_info, *shown.input, *shown.output)
    }
    known = {
        name: _FLOAT_BYTES * prod(dim.dim_value for dim in shapes[name])
        for name in tensors
        if name in shapes and all(dim.dim_value for dim in shapes[name])
    }
    largest = max(known.values(), default=0)
    return {name: known.get(name, largest) for name in tensors}


def parts_of(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """Return the tensors, in order, in parts that take at most `most` bytes each, or are one tensor."""
    parts: list[list[str]] = [[]]
    held = 0
    for name, size in sizes.items():
        if parts[-1] and held + size > most:
            parts.append([])
            held = 0
        parts[-1].append(name)
        held += size
    return parts
