"""The constants of an ONNX graph, and who reads them."""

from __future__ import annotations

from onnx import GraphProto


def has_subgraph(graph: GraphProto) -> bool:
    """Whether a node (If, Loop) holds a graph of its own, which may read any name of this one."""
    return any(attribute.HasField("g") for node in graph.node for attribute in node.attribute)


def drop_unread(graph: GraphProto) -> None:
    """Remove the initializers that no node reads and the caller does not get; none where a subgraph may read them."""
    if has_subgraph(graph):
        return
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [value for value in graph.initializer if value.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
