"""The types and shapes of a graph's tensors, inferred anew: what a file declares may be stale."""

from __future__ import annotations

import onnx
from onnx import GraphProto, ModelProto, TensorShapeProto, ValueInfoProto


def infer(model: ModelProto) -> None:
    """Infer the types and shapes of all tensors anew, in place.

    What cannot be inferred, such as what an operator of another domain makes, keeps what the file declares. So does an
    output whose declared shape nothing contradicts.
    """
    graph = model.graph
    given = _given(graph)
    for value in graph.output:
        if value.name in given and _contradicted(value, given[value.name]):
            value.CopyFrom(given[value.name])
    declared, outputs = ([_copy(value) for value in values] for values in (graph.value_info, graph.output))
    del graph.value_info[:]
    for value in graph.output:
        # The shape of an output that is an input is that of the input too.
        if value.type.HasField("tensor_type") and value.name not in given:
            value.type.tensor_type.ClearField("shape")
    found = onnx.shape_inference.infer_shapes(model).graph
    unknown = {name for node in graph.node for name in node.output} - {value.name for value in found.value_info}
    if others := [value for value in declared if value.name in unknown]:
        graph.value_info.extend(others)
        found = onnx.shape_inference.infer_shapes(model).graph
        del graph.value_info[:]
    graph.value_info.extend(found.value_info)
    for value, inferred, before in zip(graph.output, found.output, outputs, strict=True):
        value.CopyFrom(inferred if _contradicted(before, inferred) else before)


def _given(graph: GraphProto) -> dict[str, ValueInfoProto]:
    """Return the types of what no node makes: inputs and constants."""
    constants = {
        value.name: onnx.helper.make_tensor_value_info(value.name, value.data_type, list(value.dims))
        for value in graph.initializer
    }
    return {value.name: value for value in graph.input} | constants


def rank(graph: GraphProto, name: str) -> int | None:
    """Return the number of axes of a tensor, None where the graph does not tell."""
    for value in (*graph.value_info, *graph.input, *graph.output):
        if value.name == name and value.type.tensor_type.HasField("shape"):
            return len(value.type.tensor_type.shape.dim)
    return None


def _copy(value: ValueInfoProto) -> ValueInfoProto:
    copy = ValueInfoProto()
    copy.CopyFrom(value)
    return copy


def _contradicted(declared: ValueInfoProto, inferred: ValueInfoProto) -> bool:
    one, other = declared.type.tensor_type, inferred.type.tensor_type
    if not other.HasField("shape"):
        return False
    return not one.HasField("shape") or not _agree(one.shape, other.shape)


def _agree(one: TensorShapeProto, other: TensorShapeProto) -> bool:
    """Whether two shapes may be of one tensor: as many axes, and where both are known equal ones."""
    if len(one.dim) != len(other.dim):
        return False
    known = [
        (first.dim_value, second.dim_value)
        for first, second in zip(one.dim, other.dim, strict=True)
        if first.HasField("dim_value") and second.HasField("dim_value")
    ]
    return all(first == second for first, second in known)
