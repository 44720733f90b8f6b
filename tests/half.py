"""What a float16 file must be, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, TensorProto
from onnx.reference import ReferenceEvaluator

from edgekd import front

STEP = 2.0**-10
"""Between float16s, relative to their magnitude."""


def assert_valid(model: ModelProto, inputs: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """ONNX's checker and its reference evaluator take the file, and onnxruntime's answers are the evaluator's."""
    onnx.checker.check_model(model, full_check=True)
    assert any(value.data_type == TensorProto.FLOAT16 for value in model.graph.initializer)
    wanted = ReferenceEvaluator(model).run(None, dict(inputs))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, dict(inputs))
    for one, other in zip(wanted, found, strict=True):
        assert one.dtype == other.dtype
        assert np.isfinite(one).all()
        assert np.abs(one - other).max() <= 4 * STEP * np.abs(one).max()
    return list(found)


def assert_front_in_float32(model: ModelProto) -> None:
    """Nothing is cast to float16 before the front's last node."""
    nodes = [node for node in model.graph.node if node.name.startswith("front_")]
    assert [node.op_type for node in nodes][:3] == ["Transpose", "Cast", "Sub"]
    assert [node.input[0] for node in nodes] == [front.IMAGE, *(node.output[0] for node in nodes[:-1])]
    constants = {value.name: value.data_type for value in model.graph.initializer}
    assert {constants[name] for node in nodes for name in node.input[1:]} == {TensorProto.FLOAT}
