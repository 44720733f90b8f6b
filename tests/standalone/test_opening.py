"""Files of others: what onnxruntime runs is quantized, all else is an error with a hint; nothing is a stack trace."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgekd import target as targets
from edgekd.bench.measure import measure
from edgekd.errors import EdgekdError, ModelError
from edgekd.quantize.entry import Entry
from edgekd.quantize.settled import settled
from edgekd.recipe import Bench, alone
from edgekd.run import Run
from edgekd.runtime import Settings
from edgekd.standalone.asked import Request, check
from edgekd.standalone.opening import loaded
from edgekd.standalone.quantize import Quantized, quantize_file
from tests.conftest import SHARED
from tests.quantize.graphs import graph, node
from tests.standalone.files import REFUSED, ROWS, RUNS, changed, damaged, good

Ask = Callable[..., Quantized]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Quantize a file of one input on rows of it, and ship int8 in any case."""

    def quantize(file: Path, rows: NDArray[np.float32], name: str = "x") -> Quantized:
        (tmp_path / "rows").mkdir()
        arrays: dict[str, Any] = {name: rows}
        np.savez(tmp_path / "rows/0.npz", **arrays)
        request = Request(
            model=file,
            data=tmp_path / "rows",
            target=targets.load("arm64"),
            settings=alone({"samples": len(rows)}, ()),
            out=tmp_path / "dist",
            insist=True,
        )
        check(request)
        return quantize_file(request, Run())

    return quantize


def answers(file: Path, rows: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return [value.astype(np.float64) for value in session.run(None, {session.get_inputs()[0].name: rows})]


def noise(found: Quantized, file: Path, rows: NDArray[np.float32]) -> float:
    """Return the smallest signal-to-noise ratio, in dB, of what is shipped against the file as it came."""
    pairs = zip(answers(file, rows), answers(found.folder / "model.onnx", rows), strict=True)
    return min(10 * float(np.log10((one**2).mean() / max(((one - other) ** 2).mean(), 1e-30))) for one, other in pairs)


def layers_in_int8(found: Quantized) -> int:
    """Count the layers whose weight is stored in int8."""
    model = onnx.load(found.folder / "model.onnx")
    small = {value.name for value in model.graph.initializer if value.data_type == TensorProto.INT8 and value.dims}
    return sum(each.op_type == "DequantizeLinear" and each.input[0] in small for each in model.graph.node)


@pytest.mark.parametrize("name", RUNS)
def test_what_onnxruntime_runs_is_quantized_and_answers_as_before(ask: Ask, tmp_path: Path, name: str) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(changed(RUNS[name]).SerializeToString())
    found = ask(file, ROWS)
    assert found.report["precision"] == "int8"
    assert noise(found, file, ROWS) > 25
    assert layers_in_int8(found) >= 1


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_an_error_of_one_line_with_a_hint(ask: Ask, tmp_path: Path, name: str) -> None:
    change, message = REFUSED[name]
    file = tmp_path / "net.onnx"
    file.write_bytes(changed(change).SerializeToString())
    with pytest.raises(EdgekdError) as caught:
        ask(file, ROWS)
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    assert "[ONNXRuntimeError]" not in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize("name", ["a height of 2^31", "no output", "a constant twice as long"])
def test_bench_refuses_it_as_well(tmp_path: Path, name: str) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(changed(REFUSED[name][0]).SerializeToString())
    with pytest.raises(ModelError) as caught:
        measure({"net.onnx": file}, Settings(), Bench(rounds=5))
    assert "random pixels" not in caught.value.message


@pytest.mark.parametrize("seed", range(40))
def test_damage_gives_an_int8_file_or_an_error_with_a_hint(ask: Ask, tmp_path: Path, seed: int) -> None:
    """Any other exception would be a stack trace on the user's screen."""
    file = tmp_path / "net.onnx"
    file.write_bytes(damaged(seed))
    try:
        found = ask(file, ROWS)
    except EdgekdError as error:
        assert error.hint
    else:
        assert found.report["precision"] == "int8"


def like_mnist_8() -> ModelProto:
    """The model zoo's MNIST-8 in small: opset 8, constants that are inputs, weights that pass through Reshape."""
    generator = np.random.default_rng(0)
    values = {
        "k1": generator.standard_normal((4, 1, 5, 5)) * 0.2,
        "p1": generator.standard_normal((4, 1, 1)),
        "k2": generator.standard_normal((8, 4, 5, 5)) * 0.1,
        "p2": generator.standard_normal((8, 1, 1)),
        "p3": generator.standard_normal((8, 4, 4, 10)) * 0.1,
        "p3_shape": np.array([128, 10]),
        "p4": generator.standard_normal((1, 10)),
        "flat": np.array([1, 128]),
    }
    nodes = [
        node("Conv", ["x", "k1"], "c1", kernel_shape=[5, 5], auto_pad="SAME_UPPER"),
        node("Add", ["c1", "p1"], "a1"),
        node("Relu", ["a1"], "r1"),
        node("MaxPool", ["r1"], "m1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["m1", "k2"], "c2", kernel_shape=[5, 5], auto_pad="SAME_UPPER"),
        node("Add", ["c2", "p2"], "a2"),
        node("Relu", ["a2"], "r2"),
        node("MaxPool", ["r2"], "m2", kernel_shape=[3, 3], strides=[3, 3]),
        node("Reshape", ["m2", "flat"], "f"),
        node("Reshape", ["p3", "p3_shape"], "w"),
        node("MatMul", ["f", "w"], "m3"),
        node("Add", ["m3", "p4"], "y"),
    ]
    model = graph(nodes, values, [1, 1, 28, 28], [1, 10])
    model.opset_import[0].version, model.ir_version = 8, 3
    for value in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(value.name, value.data_type, list(value.dims)))
    return model


def test_a_file_like_the_model_zoos_mnist_has_all_layers_in_int8(ask: Ask, tmp_path: Path) -> None:
    onnx.save(like_mnist_8(), tmp_path / "net.onnx")
    rows = np.random.default_rng(1).uniform(0, 1, (64, 1, 28, 28)).astype(np.float32)
    found = ask(tmp_path / "net.onnx", rows)
    assert layers_in_int8(found) == 3
    shipped = onnx.load(found.folder / "model.onnx").graph
    assert sorted(each.op_type for each in shipped.node if "Linear" not in each.op_type) == [
        "Conv", "Conv", "Gemm", "MaxPool", "MaxPool", "Reshape",
    ]  # fmt: skip
    one_by_one = [
        np.concatenate([answers(file, rows[at : at + 1])[0] for at in range(len(rows))])
        for file in (tmp_path / "net.onnx", found.folder / "model.onnx")
    ]
    error = ((one_by_one[0] - one_by_one[1]) ** 2).mean() / (one_by_one[0] ** 2).mean()
    assert 10 * np.log10(error) < -30


def test_weights_in_int8_alone_are_taken_and_a_quantized_graph_is_not(ask: Ask, tmp_path: Path) -> None:
    model = good()
    for each in list(model.graph.initializer):
        if each.name in {"w", "f"}:
            weight = numpy_helper.to_array(each)
            scale = (np.abs(weight).reshape(len(weight), -1).max(1) / 127).astype(np.float32)
            rounded = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
            model.graph.initializer.remove(each)
            model.graph.initializer.extend(
                [numpy_helper.from_array(rounded, f"{each.name}_q"), numpy_helper.from_array(scale, f"{each.name}_s")]
            )
            back = node("DequantizeLinear", [f"{each.name}_q", f"{each.name}_s"], each.name, axis=0)
            model.graph.node.insert(0, back)
    onnx.save(model, tmp_path / "net.onnx")
    found = ask(tmp_path / "net.onnx", ROWS)
    assert layers_in_int8(found) == 2
    assert noise(found, tmp_path / "net.onnx", ROWS) > 30
    with pytest.raises(ModelError, match="the graph is quantized already: it has DequantizeLinear, QuantizeLinear"):
        quantize_file(
            Request(
                model=found.folder / "model.onnx", data=tmp_path / "rows", target=targets.load("arm64"),
                settings=alone({"samples": 40}, ()), out=tmp_path / "again",
            ),
            Run(),
        )  # fmt: skip


def autoencoder(fused: bool) -> ModelProto:
    """Dense layers as Keras exports them, MatMul and Add, or as one Gemm each; some channels are much larger."""
    generator = np.random.default_rng(0)
    sides = [64, 48, 48, 8, 48, 48, 64]
    nodes: list[NodeProto] = []
    values: dict[str, NDArray[Any]] = {}
    source = "x"
    for number, (inputs, outputs) in enumerate(pairwise(sides)):
        last = number == len(sides) - 2
        spread = np.exp(generator.normal(0, 1, outputs))
        values[f"w{number}"] = generator.standard_normal((inputs, outputs)) * spread / np.sqrt(inputs)
        values[f"b{number}"] = generator.standard_normal(outputs) * spread
        made = "y" if last else f"a{number}"
        if fused:
            nodes.append(node("Gemm", [source, f"w{number}", f"b{number}"], made))
        else:
            nodes.append(node("MatMul", [source, f"w{number}"], f"m{number}"))
            nodes.append(node("Add", [f"m{number}", f"b{number}"], made))
        if not last:
            nodes.append(node("Relu", [made], f"r{number}"))
            source = f"r{number}"
    return graph(nodes, values, ["N", 64], ["N", 64])


def test_dense_layers_of_keras_are_quantized_like_those_of_torch(ask: Ask, tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((64, 64)).astype(np.float32)
    files = []
    for name, fused in (("keras", False), ("torch", True)):
        (tmp_path / name).mkdir()
        onnx.save(autoencoder(fused), tmp_path / name / "net.onnx")
        files.append(tmp_path / name / "net.onnx")
    found = ask(files[0], rows)
    assert noise(found, files[0], rows) > 30
    keras, torch = (loaded(file) for file in files)
    assert keras.graph.node[0].op_type == "MatMul", "the float file that may ship is as it came"
    shipped = onnx.load(found.folder / "model.onnx")
    assert [each.op_type for each in shipped.graph.node].count("Gemm") == 6
    one, other = (settled(model, Entry(kind="arrays")).model for model in (keras, torch))
    assert [each.op_type for each in one.graph.node] == [each.op_type for each in other.graph.node]


ODD = sorted((SHARED.parent / "repro/onnx").glob("*.onnx"))
WILD = SHARED / "wild"
needs_files = pytest.mark.skipif(not ODD, reason="the odd files of others lie beside the checkout only")


def rows_for(file: Path) -> NDArray[np.float32]:
    return ROWS if file.stem != "gemmconst" else np.random.default_rng(0).standard_normal((40, 20)).astype(np.float32)


@pytest.mark.data
@needs_files
@pytest.mark.parametrize("file", ODD, ids=[file.stem for file in ODD])
def test_odd_files_of_others_run_as_in_onnxruntime_or_are_errors(ask: Ask, file: Path) -> None:
    rows = rows_for(file)
    try:
        before = answers(file, rows)
    except Exception:
        before = []  # onnxruntime does not run it, or with nothing to return
    try:
        found = ask(file, rows)
    except EdgekdError as error:
        assert error.hint
        assert not before or file.stem in {"neg_h", "crash28", "N_zero_classes"}, "onnxruntime runs it"
        return
    assert before
    assert noise(found, file, rows) > 25


@pytest.mark.data
@needs_files
@pytest.mark.parametrize("file", ODD, ids=[file.stem for file in ODD])
def test_odd_files_of_others_are_timed_or_are_errors(file: Path) -> None:
    try:
        run = measure({"net.onnx": file}, Settings(), Bench(rounds=5))
    except EdgekdError as error:
        assert error.hint
        return
    assert run.latency_ms["net.onnx"].p50.value > 0


def log_mel(count: int, seed: int) -> NDArray[np.float32]:
    """Five frames of 128 bands each around -30 dB and below, smooth over the bands."""
    generator = np.random.default_rng(seed)
    bands = np.arange(128)
    sizes = generator.normal(0, 6, (count, 6)) / (1 + np.arange(6))
    angles = np.pi * np.arange(6)[:, None] * bands / 128 + generator.uniform(0, 6, (count, 6, 1))
    base = -30 - 8 * np.log1p(bands / 20) + (sizes[:, :, None] * np.cos(angles)).sum(1)
    frames = base[:, None] + generator.normal(0, 2, (count, 5, 1)) + generator.normal(0, 1.5, (count, 5, 128))
    return frames.reshape(count, 640).astype(np.float32)


@pytest.mark.data
@pytest.mark.skipif(not WILD.is_dir(), reason="the models of others lie beside the checkout only")
@pytest.mark.parametrize("kind", ["log-mel", "normal"])
def test_toycar_keeps_33_db(ask: Ask, kind: str) -> None:
    """onnxruntime by hand reaches 31.3 dB on the first and 27.8 on the second, without pre-processing."""
    file = WILD / "mlperf_tiny_toycar_autoencoder.onnx"
    draws = [
        log_mel(512, seed) if kind == "log-mel" else np.random.default_rng(seed).standard_normal((512, 640))
        for seed in (0, 7)
    ]
    calibration, others = (rows.astype(np.float32) for rows in draws)
    assert noise(ask(file, calibration, "input_1"), file, others) > 33


@pytest.mark.data
@pytest.mark.skipif(not WILD.is_dir(), reason="the models of others lie beside the checkout only")
def test_constants_behind_reshape_are_the_biases_of_the_text_classifier() -> None:
    model = settled(loaded(WILD / "ppocr_angle_cls.onnx"), Entry(kind="arrays")).model
    kinds = [each.op_type for each in model.graph.node]
    assert (kinds.count("Conv"), kinds.count("Reshape"), kinds.count("Gemm")) == (53, 2, 1)
    assert all(len(each.input) == 3 for each in model.graph.node if each.op_type in {"Conv", "Gemm"})
