"""Clean-ups of a graph: its outputs stay, its history goes."""

import numpy as np
from onnx import TensorProto, helper

from edgekd.export import graph as clean
from tests.means import mean_graph, run


def test_strip_removes_every_note() -> None:
    secret = "/home/someone/secret.py"
    model = mean_graph([2, 3], 0)
    model.graph.value_info.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, None))
    model.doc_string = model.graph.doc_string = model.graph.name = model.producer_name = secret
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.metadata_props.add(key="stack", value=secret)
        item.doc_string = secret
    before = run(model)
    clean.strip(model)
    assert secret.encode() not in model.SerializeToString()
    assert not model.metadata_props
    assert np.array_equal(run(model), before)


def test_batch_is_called_n_on_both_ends() -> None:
    model = mean_graph([2, 3], 0)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["s0", 5]))
    clean.name_batch(model)
    values = (model.graph.input[0], model.graph.output[0])
    assert [value.type.tensor_type.shape.dim[0].dim_param for value in values] == ["N", "N"]
    assert values[0].type.tensor_type.shape.dim[2].dim_value == 6
