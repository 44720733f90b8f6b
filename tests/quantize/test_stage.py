"""The candidates: integer throughout, small, and of the float graph's opinion."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from edgekd import operators
from edgekd.quantize.calibrate import COUNTED, calibrate
from edgekd.quantize.repair import repair
from edgekd.quantize.stage import FLOAT, FP16, INT8, convert, quantize
from edgekd.recipe import Quantize
from edgekd.run import Run
from edgekd.runtime import Settings
from edgekd.target import Int8
from tests.half import assert_front_in_float32, assert_valid


@dataclass(frozen=True)
class Made:
    folder: Path
    metrics: dict[str, Any]


def make(task: Any, folder: Path, precision: Any, policy: Int8 | None, **given: Any) -> Made:
    """Run the stages, one after the other."""
    candidates = folder / "candidates"
    if policy is None:
        return Made(candidates, dict(convert.function(candidates, Run(), task.graph, task.samples, None, precision)))
    config = Quantize(**given)
    run = Run()
    front = repair.function(folder / "repaired", run, task.graph, task.samples, None, policy, config.for_repair(), "")
    calibrator = config.calibrators()[0]
    calibrate.function(folder / "observed.npz", run, folder / "repaired", task.samples, COUNTED[calibrator], "")
    metrics = quantize.function(
        candidates, run, task.graph, folder / "repaired", folder / "observed.npz", task.samples, policy,
        config.for_rounding(calibrator, "optq" if config.rounding == "optq" else "nearest"), (), "",
    )  # fmt: skip
    return Made(candidates, {**front, **metrics})


@pytest.fixture(scope="module", params=[False, True], ids=["8bit", "7bit"])
def made(request: pytest.FixtureRequest, task: Any, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(task, tmp_path_factory.mktemp("int8"), "int8", Int8(reduce_range=request.param))


def run(model: Path, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": images})[0])


def weights_of(model: ModelProto) -> list[np.ndarray]:
    arrays = [numpy_helper.to_array(value) for value in model.graph.initializer if value.data_type == TensorProto.INT8]
    return [array for array in arrays if array.ndim > 1]


def test_float_candidate_is_the_graph_and_tells_the_classes_apart(task: Any, made: Made) -> None:
    assert made.metrics["candidates"] == [INT8, FLOAT]
    logits = run(made.folder / FLOAT, task.images)
    assert np.array_equal(logits, run(task.graph, task.images))
    assert (logits.argmax(1) == task.labels).mean() > 0.95


def test_int8_is_closed_integer(made: Made) -> None:
    ran = operators.that_run(made.folder / INT8, Settings())
    assert ran.in_float == {}
    assert ran.is_closed_integer
    assert ran.counts["QLinearConv"] == 2


def test_int8_names_the_class_that_float_names(task: Any, made: Made) -> None:
    one, other = (run(made.folder / name, task.images) for name in (INT8, FLOAT))
    assert (one.argmax(1) == other.argmax(1)).mean() > 0.97
    assert np.abs(one - other).max() < 0.15 * np.abs(other).max()


def test_int8_takes_pixels_and_gives_float_logits(made: Made) -> None:
    session = ort.InferenceSession(str(made.folder / INT8), providers=["CPUExecutionProvider"])
    (given,), (taken,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("image", "tensor(uint8)", ["N", 12, 12, 3])
    assert (taken.name, taken.type, taken.shape) == ("logits", "tensor(float)", ["N", 4])


def test_batch_is_dynamic_and_images_do_not_mix(task: Any, made: Made) -> None:
    whole = run(made.folder / INT8, task.images[:7])
    single = np.concatenate([run(made.folder / INT8, task.images[index : index + 1]) for index in range(7)])
    assert np.array_equal(whole, single)


def test_weights_have_the_bits_that_the_policy_says(made: Made, request: pytest.FixtureRequest) -> None:
    weights = weights_of(onnx.load(made.folder / INT8))
    largest = max(int(np.abs(weight.astype(np.int64)).max()) for weight in weights)
    assert len(weights) == 3
    if "7bit" in request.node.name:
        assert 60 <= largest <= 64
    else:
        assert 120 <= largest <= 127


def test_int8_file_is_stripped_and_keeps_the_versions(made: Made) -> None:
    model = onnx.load(made.folder / INT8)
    assert model.ir_version == 8
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert not model.metadata_props
    assert sorted(file.name for file in made.folder.iterdir()) == [FLOAT, INT8]
    assert str(made.folder).encode() not in (made.folder / INT8).read_bytes()


def test_front_is_absorbed_and_changes_no_class(made: Made) -> None:
    wanted = {"front": "absorbed", "front_exact": True, "front_agreement": 1.0}
    assert {key: made.metrics[key] for key in wanted} == wanted


def test_quantizing_twice_gives_the_same_bytes(task: Any, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (make(task, tmp_path / name, "int8", Int8()) for name in "ab")
    assert (one.folder / INT8).read_bytes() == (other.folder / INT8).read_bytes()


def test_fp16_runs_takes_pixels_and_is_near(task: Any, tmp_path: Path) -> None:
    """The graph carries its shapes, as onnxsim leaves it."""
    onnx.save(onnx.shape_inference.infer_shapes(onnx.load(task.graph)), tmp_path / "shaped.onnx")
    made = make(replace(task, graph=tmp_path / "shaped.onnx"), tmp_path, "fp16", None)
    assert made.metrics["candidates"] == [FP16, FLOAT]
    assert made.metrics["beyond_float16"] == []
    half, whole = (run(made.folder / name, task.images) for name in (FP16, FLOAT))
    model = onnx.load(made.folder / FP16)
    assert np.array_equal(half, assert_valid(model, {"image": task.images})[0])
    assert_front_in_float32(model)
    assert half.dtype == np.float32
    assert np.abs(half - whole).max() < 0.01 * np.abs(whole).max()
    kinds = {value.data_type for value in model.graph.initializer if len(value.dims) == 4}
    assert TensorProto.FLOAT16 in kinds
    assert (made.folder / FP16).stat().st_size < (made.folder / FLOAT).stat().st_size


def test_float_alone_makes_one_candidate(task: Any, tmp_path: Path) -> None:
    made = make(task, tmp_path, "float", None)
    assert made.metrics["candidates"] == [FLOAT]
    assert [file.name for file in made.folder.iterdir()] == [FLOAT]
