"""Small float graphs to repair and round, made without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgekd.quantize.feed import Feed


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, list(inputs), [output], name=f"{kind.lower()}_{output}", **attributes)


def graph(
    nodes: Sequence[NodeProto],
    values: Mapping[str, Any],
    given: Sequence[int | str] = ("N", 3, 8, 8),
    made: Sequence[int | str] | None = ("N", 4, 8, 8),
) -> ModelProto:
    """Return a model x -> y with these initializers, float32 unless they are integers."""
    arrays = {name: np.asarray(value) for name, value in values.items()}
    constants = [
        numpy_helper.from_array(array if array.dtype.kind == "i" else array.astype(np.float32), name)
        for name, array in arrays.items()
    ]
    body = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(given))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, made)],
        constants,
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model: ModelProto, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": images})[0])


def values_of(model: ModelProto) -> dict[str, np.ndarray]:
    return {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}


def feed(images: np.ndarray, name: str = "x") -> Feed:
    return Feed(len(images), lambda start, stop: {name: images[start:stop]})


def images(count: int = 40, channels: int = 3, side: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, channels, side, side)).astype(np.float32)


def two_layers(seed: int = 0, kernel: int = 3, between: str = "Relu") -> ModelProto:
    """Conv, activation, Conv; the channels between them differ in range by up to a hundred times."""
    generator = np.random.default_rng(seed)
    wide = np.logspace(-1, 1, 6).reshape(-1, 1, 1, 1)
    pad = kernel // 2
    values = {
        "w1": generator.standard_normal((6, 3, 3, 3)) * wide * 0.3,
        "b1": generator.standard_normal(6) * wide[:, 0, 0, 0],
        "w2": generator.standard_normal((4, 6, kernel, kernel)) / wide.reshape(1, -1, 1, 1) * 0.3,
        "b2": generator.standard_normal(4),
        "zero": np.array(0.0),
        "six": np.array(6.0),
    }
    ends = ["zero", "six"] if between == "Clip" else []
    nodes = [
        node("Conv", ["x", "w1", "b1"], "c", pads=[1, 1, 1, 1]),
        node(between, ["c", *ends], "r"),
        node("Conv", ["r", "w2", "b2"], "y", pads=[pad] * 4),
    ]
    return graph(nodes, values)
