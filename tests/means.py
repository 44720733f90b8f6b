"""Graphs that take a mean, and how they are run."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, TensorProto, helper, numpy_helper

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
