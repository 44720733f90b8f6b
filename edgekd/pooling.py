"""Means over the pixels of a graph, written so that onnxruntime has integers for them."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from edgekd import constants

_SPATIAL = {2, 3}
_SPATIAL_FROM_THE_END = {-1, -2}


def pool_globally(model: ModelProto) -> int:
    """Write a mean over height and width as GlobalAveragePool; return how many.

    torch's exporter decomposes adaptive_avg_pool2d to ReduceMean, for which onnxruntime has no int8 kernel.
    """
    graph = model.graph
    nodes: list[NodeProto] = []
    count = 0
    for node in graph.node:
        keep = _mean_over_pixels(node, graph)
        if keep is None:
            nodes.append(node)
            continue
        count += 1
        source, result = node.input[0], node.output[0]
        pooled = result if keep else f"{result}_pooled"
        made = [helper.make_node("GlobalAveragePool", [source], [pooled], name=node.name)]
        if not keep:
            made.append(helper.make_node("Flatten", [pooled], [result], name=f"{node.name}_flatten", axis=1))
        for each in made:
            each.metadata_props.extend(node.metadata_props)
        nodes += made
    del graph.node[:]
    graph.node.extend(nodes)
    constants.drop_unread(graph)
    return count


def _rank(name: str, graph: GraphProto) -> int:
    """Return the rank of a tensor, 4 where the graph does not say: what an image network averages."""
    for value in (*graph.value_info, *graph.input):
        if value.name == name and value.type.tensor_type.HasField("shape"):
            return len(value.type.tensor_type.shape.dim)
    return 4


def _mean_over_pixels(node: NodeProto, graph: GraphProto) -> bool | None:
    """Return whether a mean over exactly height and width keeps those axes; None for any other node."""
    if node.op_type != "ReduceMean":
        return None
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if "axes" in attributes:
        axes = set(attributes["axes"].ints)
    else:
        constant = [value for value in graph.initializer if len(node.input) > 1 and value.name == node.input[1]]
        axes = set(np.atleast_1d(numpy_helper.to_array(constant[0])).tolist()) if constant else set()
    if axes not in (_SPATIAL, _SPATIAL_FROM_THE_END) or _rank(node.input[0], graph) != 4:
        return None
    return bool(attributes["keepdims"].i) if "keepdims" in attributes else True
