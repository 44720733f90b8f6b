"""Small clean-ups of an exported graph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto


def strip(model: ModelProto) -> None:
    """Remove what says where and how the file was made: torch's exporter stores stack traces and source paths."""
    del model.metadata_props[:]
    model.doc_string = ""
    model.producer_name, model.producer_version = "edgekd", ""
    model.graph.name = "edgekd"
    for function in model.functions:
        _strip_items(function, function.node)
    _strip_graph(model.graph)


def _strip_graph(graph: GraphProto) -> None:
    _strip_items(graph, graph.node)
    for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        _strip_one(item)


def _strip_items(holder: Any, nodes: Iterable[NodeProto]) -> None:
    _strip_one(holder)
    for node in nodes:
        _strip_one(node)
        for attribute in node.attribute:
            attribute.doc_string = ""
            if attribute.HasField("g"):
                _strip_graph(attribute.g)


def _strip_one(item: Any) -> None:
    item.doc_string = ""
    del item.metadata_props[:]


def name_batch(model: ModelProto) -> None:
    """Call the dynamic batch dimension N."""
    for value in (*model.graph.input, *model.graph.output):
        dim = value.type.tensor_type.shape.dim[0]
        dim.Clear()
        dim.dim_param = "N"
    del model.graph.value_info[:]
