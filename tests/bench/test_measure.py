"""One interleaved run over real sessions."""

from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgekd.bench.measure import Measured, measure
from edgekd.errors import ModelError, TargetError
from edgekd.recipe import Bench
from edgekd.runtime import Settings

CONFIG = Bench(rounds=6, warmup=1)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8])],
    )
    file = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), file)
    return file


def test_every_model_has_a_latency_and_the_first_is_once_as_fast_as_itself(model: Path) -> None:
    run = measure({"teacher": model, "shipped": model}, Settings(), CONFIG)
    assert list(run.latency_ms) == list(run.faster) == ["teacher", "shipped"]
    assert (run.rounds, run.threads, run.onnxruntime) == (6, 1, onnxruntime.__version__)
    assert all(latency.calls == 30 and latency.p50.value > 0 for latency in run.latency_ms.values())
    assert (run.faster["teacher"].value, run.faster["teacher"].low, run.faster["teacher"].high) == (1.0, 1.0, 1.0)
    assert Measured.model_validate_json(run.model_dump_json()) == run


def test_missing_provider_is_an_error(model: Path) -> None:
    with pytest.raises(TargetError, match="this onnxruntime has no NoSuchProvider"):
        measure({"a": model}, Settings(providers=("NoSuchProvider",)), CONFIG)


def test_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError, match=r"text\.onnx is not a model that onnxruntime takes"):
        measure({"a": tmp_path / "text.onnx"}, Settings(), CONFIG)
