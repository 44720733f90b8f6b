"""The constants of an ONNX graph, who reads them, and which nodes compute nothing else."""

from __future__ import annotations

from onnx import GraphProto, NodeProto

STANDARD = frozenset({"", "ai.onnx"})
"""The two names of ONNX's own domain."""
_RANDOM = frozenset({"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"})
_RANDOM |= {"Bernoulli", "Multinomial", "Dropout"}


def has_subgraph(graph: GraphProto) -> bool:
    """Whether a node (If, Loop) holds a graph of its own, which may read any name of this one."""
    return any(_holds_graph(node) for node in graph.node)


def drop_unread(graph: GraphProto) -> None:
    """Remove the initializers that no node reads and the caller does not get; none where a subgraph may read them."""
    if has_subgraph(graph):
        return
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [value for value in graph.initializer if value.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def part_outputs(graph: GraphProto) -> None:
    """Let nodes read a copy of each constant that the graph returns as well: what they read may then be changed."""
    returned = {value.name for value in graph.output}
    read = {name for node in graph.node for name in node.input}
    taken = {name for node in graph.node for name in node.output} | {value.name for value in graph.input} | read
    taken |= {value.name for value in graph.initializer}
    copies: dict[str, str] = {}
    for value in [value for value in graph.initializer if value.name in returned & read]:
        copy = graph.initializer.add()
        copy.CopyFrom(value)
        while copy.name in taken:
            copy.name += "_"
        taken.add(copy.name)
        copies[value.name] = copy.name
    for node in graph.node if copies else ():
        node.input[:] = [copies.get(name, name) for name in node.input]


def computing(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes that compute only constants, in order: a Reshape of a weight, a DequantizeLinear of one.

    A node with random results is none of them, nor is one that holds a graph of its own.
    """
    # An initializer that is an input as well is only a default, which the caller may replace.
    known = {value.name for value in graph.initializer} - {value.name for value in graph.input}
    found = []
    for node in graph.node:
        if node.domain not in STANDARD or node.op_type in _RANDOM or _holds_graph(node):
            continue
        if all(name in known for name in node.input if name):
            known.update(name for name in node.output if name)
            found.append(node)
    return found


def needed(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes that an output depends on, in order. The nodes of the graph must be sorted."""
    read = {value.name for value in graph.output}
    found = []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            read.update(name for name in node.input if name)
            found.append(node)
    return found[::-1]


def drop_unneeded(graph: GraphProto) -> None:
    """Remove the nodes that no output depends on, and the initializers that are then read by none."""
    kept = needed(graph)
    if len(kept) < len(graph.node):
        del graph.node[:]
        graph.node.extend(kept)
        drop_unread(graph)


def _holds_graph(node: NodeProto) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
