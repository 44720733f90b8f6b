"""edgekd quantize, as a user without a teacher meets it: any float file, images or arrays, and every bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image

from edgekd import front
from edgekd import target as targets
from edgekd.errors import EdgekdError
from edgekd.recipe import alone
from edgekd.run import Run
from edgekd.standalone.asked import Request, check
from edgekd.standalone.quantize import Quantized, lines, quantize_file
from tests.quantize.graphs import graph, node

COLOURS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])


def classifier(batch: int | str = "N", sides: tuple[int | str, int | str] = (16, 16)) -> ModelProto:
    """Tells which colour is strongest: Conv, Relu, GlobalAveragePool, Flatten, Gemm."""
    generator = np.random.default_rng(0)
    mixed = np.concatenate([np.eye(3), generator.standard_normal((13, 3)) * 0.05]).reshape(16, 3, 1, 1)
    values = {
        "w1": np.pad(mixed, [(0, 0), (0, 0), (1, 1), (1, 1)]),
        "b1": np.full(16, 1.0),
        "w2": np.eye(3, 16) * 4,
        "b2": np.zeros(3),
    }
    nodes = [
        node("Conv", ["x", "w1", "b1"], "c", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], "r"),
        node("GlobalAveragePool", ["r"], "p"),
        node("Flatten", ["p"], "f"),
        node("Gemm", ["f", "w2", "b2"], "y", transB=1),
    ]
    return graph(nodes, values, given=[batch, 3, *sides], made=[batch, 3])


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for label, colour in enumerate(COLOURS):
        (folder / f"class{label}").mkdir()
        for number in range(40):
            noisy = (colour + generator.normal(0, 30, (16, 16, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"class{label}" / f"{number}.png")
    return folder


Ask = Callable[..., Quantized]


@pytest.fixture
def ask(tmp_path: Path, pictures: Path) -> Ask:
    """Quantize a model with options of Request, and settings as --set gives them."""

    def quantize(model: ModelProto, *settings: str, samples: int = 60, **given: Any) -> Quantized:
        onnx.save(model, tmp_path / "net.onnx")
        request = Request(
            model=tmp_path / "net.onnx",
            data=given.pop("data", pictures),
            target=targets.load(given.pop("target", "arm64")),
            settings=alone({"samples": samples}, settings),
            out=tmp_path / "dist",
            **given,
        )
        check(request)
        return quantize_file(request, Run())

    return quantize


def session_of(found: Quantized) -> Any:
    return ort.InferenceSession(str(found.folder / "model.onnx"), providers=["CPUExecutionProvider"])


def test_the_interface_stays_and_the_answers_too(ask: Ask) -> None:
    found = ask(classifier())
    (given,), (taken,) = session_of(found).get_inputs(), session_of(found).get_outputs()
    assert (given.name, given.type, given.shape) == ("x", "tensor(float)", ["N", 3, 16, 16])
    assert (taken.name, taken.type) == ("y", "tensor(float)")
    assert found.report["precision"] == "int8"
    assert found.report["top1"] == {"float": 1.0, "shipped": 1.0}
    assert found.report["images_judged"] == 60, "those that were not drawn for calibration"
    assert found.report["agreement_with_float"] == 1.0
    assert json.loads((found.folder / "report.json").read_text()) == found.report
    assert sorted(file.name for file in found.folder.iterdir()) == ["model.onnx", "report.json"]
    assert any("agrees with its float parent on 100.00 % of 60 samples" in line for line in lines(found))


def test_absorb_lets_the_graph_take_pixels(ask: Ask) -> None:
    found = ask(classifier(), absorb=True, mean=(128.0, 128.0, 128.0), std=(64.0, 64.0, 64.0))
    (given,) = session_of(found).get_inputs()
    assert (given.name, given.type, given.shape) == (front.IMAGE, "tensor(uint8)", ["N", 16, 16, 3])
    assert found.report["top1"]["shipped"] == 1.0
    assert found.report["operators_in_float"] == {}


@pytest.mark.parametrize("calibrator", ["percentile", "entropy", "mse"])
def test_every_calibrator_keeps_the_classes(ask: Ask, calibrator: str) -> None:
    found = ask(classifier(), f"quantize.calibrator={calibrator}")
    assert found.report["quantization"]["calibrator"] == calibrator
    assert found.report["top1"]["shipped"] == 1.0


def test_a_fixed_batch_of_one_works(ask: Ask) -> None:
    assert ask(classifier(batch=1)).report["top1"]["shipped"] == 1.0


def test_pixels_of_a_uint8_input_go_in_as_they_are(ask: Ask) -> None:
    body = classifier()
    casts = [
        helper.make_node("Transpose", ["pixels"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["t"], ["x"], to=TensorProto.FLOAT),
    ]
    nodes = list(body.graph.node)
    del body.graph.node[:]
    body.graph.node.extend([*casts, *nodes])
    del body.graph.input[:]
    body.graph.input.append(helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 16, 16, 3]))
    found = ask(body)
    assert session_of(found).get_inputs()[0].type == "tensor(uint8)"
    assert found.report["top1"]["shipped"] == 1.0


def two_inputs() -> ModelProto:
    values = {"w": np.random.default_rng(0).standard_normal((4, 3, 3, 3)), "b": np.zeros(4)}
    nodes = [
        node("Conv", ["x", "w", "b"], "c"),
        node("GlobalAveragePool", ["c"], "p"),
        node("Flatten", ["p"], "f"),
        node("Add", ["f", "more"], "y"),
    ]
    model = graph(nodes, values, given=["N", 3, 8, 8], made=["N", 4])
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 4]))
    return model


def arrays_in(folder: Path, **changed: np.ndarray) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(3):
        made = {
            "x": generator.standard_normal((20, 3, 8, 8)).astype(np.float32),
            "more": generator.standard_normal((20, 4)).astype(np.float32),
        }
        np.savez(folder / f"{number}.npz", **{**made, **changed})
    return folder


def test_several_inputs_come_as_arrays_by_name(ask: Ask, tmp_path: Path) -> None:
    found = ask(two_inputs(), data=arrays_in(tmp_path / "npz"), samples=50)
    assert {given.name for given in session_of(found).get_inputs()} == {"x", "more"}
    assert found.report["images_judged"] == 50
    assert found.report["sqnr_db"] > 25
    assert found.report["top1"] is None


def test_a_budget_that_is_missed_is_said(ask: Ask) -> None:
    found = ask(classifier(), "budget.max_accuracy_drop=-0.5")
    assert found.missed
    assert any(line.strip().startswith("budget missed: max_accuracy_drop asked -0.5") for line in lines(found))
    assert not ask(classifier(), "budget.max_accuracy_drop=0.05").missed


def quantized_already() -> ModelProto:
    scale, zero = (
        numpy_helper.from_array(np.array(value, kind), name)
        for value, kind, name in ((0.1, np.float32, "s"), (128, np.uint8, "z"))
    )
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = graph(nodes, {}, made=["N", 3, 8, 8])
    model.graph.initializer.extend([scale, zero])
    return model


def nothing_to_quantize() -> ModelProto:
    return graph([node("Relu", ["x"], "y")], {}, made=["N", 3, 8, 8])


def not_finite() -> ModelProto:
    model = classifier()
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[0, 0, 0, 0] = np.inf
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, model.graph.initializer[0].name))
    return model


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        (quantized_already, {}, "the graph is quantized already: it has DequantizeLinear, QuantizeLinear"),
        (nothing_to_quantize, {}, "no operator that int8 would make faster (it has Relu)"),
        (classifier, {"samples": 500}, "500 calibration images are asked for, the folder holds 120"),
        (not_finite, {}, 'the tensor "'),
        (lambda: classifier(sides=("H", "W")), {}, "the input x has no fixed height and width"),
        (classifier, {"size": (8, 8)}, "--size (8, 8), but the input x is 16×16"),
        (two_inputs, {}, "the graph has 2 inputs (x, more), images are one"),
        (classifier, {"data": Path("nowhere")}, "no data folder nowhere"),
        (classifier, {"std": (0.0, 1.0, 1.0)}, "--std must be above 0"),
        (classifier, {"target": "cuda"}, "cuda wants fp16, not int8"),
    ],
)
def test_bad_input_is_an_error_with_a_hint_and_leaves_nothing(
    ask: Ask, tmp_path: Path, model: Callable[[], ModelProto], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(EdgekdError) as caught:
        ask(model(), **given)
    assert message in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"more": np.zeros((20, 5), np.float32)}, "0.npz: more is float32 [20, 5]"),
        ({"more": np.zeros((20, 4), np.float64)}, "0.npz: more is float64 [20, 4]"),
        ({"more": np.zeros((7, 4), np.float32)}, "0.npz holds [7, 20] rows"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    ask: Ask, tmp_path: Path, changed: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(EdgekdError) as caught:
        ask(two_inputs(), data=arrays_in(tmp_path / "npz", **changed), samples=50)
    assert message in caught.value.message


def test_an_array_that_is_missing_is_named(ask: Ask, tmp_path: Path) -> None:
    folder = tmp_path / "npz"
    folder.mkdir()
    np.savez(folder / "a.npz", x=np.zeros((5, 3, 8, 8), np.float32))
    with pytest.raises(EdgekdError, match=r"a.npz has no array more \(it has x\)"):
        ask(two_inputs(), data=folder, samples=5)


def test_open_sides_are_given_by_size(ask: Ask) -> None:
    found = ask(classifier(sides=("H", "W")), size=(16, 16))
    assert found.report["top1"]["shipped"] == 1.0


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "edgekd.cli", "quantize", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=folder)


def test_the_command_writes_and_tells(tmp_path: Path, pictures: Path) -> None:
    onnx.save(classifier(), tmp_path / "net.onnx")
    done = command("net.onnx", "--data", str(pictures), "--target", "arm64", "--samples", "60", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pixels are fed as (pixel - mean) / std, mean 0, 0, 0, std 255, 255, 255" in done.stdout
    assert done.stdout.splitlines()[-1] == "wrote dist/net-arm64/"
    assert (tmp_path / "dist/net-arm64/model.onnx").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--calibrator", "magic"], 'error: --set: quantize.calibrator = "magic"'),
        (["--mean", "1,2"], 'error: --mean "1,2" is neither one number nor three'),
        (["--size", "0x3"], 'error: --size "0x3" is no size'),
        (["--set", "prune.steps=3"], 'error: --set: unknown key "prune" in the top level'),
        (["--target", "toaster"], 'error: unknown target "toaster"'),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path: Path, pictures: Path, arguments: list[str], message: str) -> None:
    onnx.save(classifier(), tmp_path / "net.onnx")
    done = command("net.onnx", "--data", str(pictures), "--samples", "20", *arguments, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].startswith(message)
    assert done.stderr.splitlines()[1].startswith("hint: ")


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path, pictures: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"nonsense" * 10)
    done = command("net.onnx", "--data", str(pictures), folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: net.onnx is no ONNX file")
