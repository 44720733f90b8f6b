"""Compacting changes the size of a file and nothing that it computes."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, quantize_static

from edgekd.quantize.compact import compact
from edgekd.workload import arrays


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """All images at once."""

    def __init__(self, images: np.ndarray) -> None:
        self.batches = iter([{"image": images}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


@pytest.fixture(scope="module")
def quantized(task: Any, tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    """The graph as onnxruntime's quantizer leaves it."""
    folder = tmp_path_factory.mktemp("raw")
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(task.graph)), folder / "float.onnx")
    reader = Reader(arrays.load(task.samples).images)
    quantize_static(
        str(folder / "float.onnx"),
        str(folder / "int8.onnx"),
        reader,
        quant_format=QuantFormat.QDQ,
        calibrate_method=CalibrationMethod.MinMax,
        per_channel=True,
    )
    return onnx.load(folder / "int8.onnx")


def run(model: ModelProto, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": images})[0])


@pytest.fixture(scope="module")
def small(quantized: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(quantized)
    compact(copy)
    return copy


def test_outputs_are_bit_equal(task: Any, quantized: ModelProto, small: ModelProto) -> None:
    assert np.array_equal(run(quantized, task.images), run(small, task.images))


def test_file_is_a_fifth_smaller_at_least(quantized: ModelProto, small: ModelProto) -> None:
    assert small.ByteSize() < 0.8 * quantized.ByteSize()


def test_inputs_and_outputs_keep_their_names_and_all_others_are_short(small: ModelProto) -> None:
    names = {name for node in small.graph.node for name in (*node.input, *node.output)}
    assert {"image", "logits"} <= names
    assert max(len(name) for name in names - {"image", "logits"}) <= 3
    assert all(not node.name and not node.doc_string for node in small.graph.node)


def test_equal_constants_are_one(small: ModelProto) -> None:
    contents = [
        (value.data_type, tuple(value.dims), value.raw_data) for value in small.graph.initializer if value.raw_data
    ]
    assert len(contents) == len(set(contents))


def test_compacting_again_changes_nothing(small: ModelProto) -> None:
    again = ModelProto()
    again.CopyFrom(small)
    compact(again)
    assert again.SerializeToString(deterministic=True) == small.SerializeToString(deterministic=True)


def test_result_is_a_valid_model(small: ModelProto, tmp_path: Path) -> None:
    onnx.checker.check_model(small)
    onnx.save(small, tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == small
