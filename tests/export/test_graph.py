"""Clean-ups of a graph: its outputs stay, its history goes."""

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgekd.export import graph as clean

X = np.random.default_rng(0).standard_normal((3, 5, 6, 7)).astype(np.float32)


def mean_graph(axes: list[int], keepdims: int | None, opset: int = 18) -> ModelProto:
    """y = mean of x over the axes, then x's channels are scaled by a constant so that another initializer stays."""
    attributes = {} if keepdims is None else {"keepdims": keepdims}
    if opset < 18:
        node = helper.make_node("ReduceMean", ["x"], ["m"], name="mean", axes=axes, **attributes)
    else:
        node = helper.make_node("ReduceMean", ["x", "axes"], ["m"], name="mean", **attributes)
    graph = helper.make_graph(
        [node, helper.make_node("Mul", ["m", "two"], ["y"])],
        "made in /some/where",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 5, 6, 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *([None] * (1 if keepdims == 0 else 3))])],
        [numpy_helper.from_array(np.array(2.0, np.float32), "two")],
    )
    if opset >= 18:
        graph.initializer.append(numpy_helper.from_array(np.array(axes, np.int64), "axes"))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(model: ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": X})[0])


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
