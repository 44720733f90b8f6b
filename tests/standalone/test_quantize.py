"""edgekd quantize, as a user without a teacher meets it: any float file, images or arrays, and every bad input."""

from __future__ import annotations

import json
import shutil
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

from edgekd import front, ref
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
        run = given.pop("run", Run())
        request = Request(
            model=tmp_path / "net.onnx",
            data=given.pop("data", pictures),
            target=targets.load(given.pop("target", "arm64")),
            settings=alone({"samples": samples}, settings),
            out=tmp_path / "dist",
            **given,
        )
        check(request)
        return quantize_file(request, run)

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
    assert found.report["samples_judged"] == 60, "those that were not drawn for calibration"
    assert found.report["agreement_with_float"] == 1.0
    assert json.loads((found.folder / "report.json").read_text()) == found.report
    assert sorted(file.name for file in found.folder.iterdir()) == ["model.onnx", "report.json"]
    assert any("agrees with its float parent on 100.00 % of 60 samples" in line for line in lines(found))


def test_files_that_are_not_images_are_named_in_the_log_and_the_report(
    tmp_path: Path, pictures: Path, ask: Ask
) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures, data)
    for name in ("class0/notes.txt", "class1/Thumbs.db"):
        (data / name).touch()
    said: list[str] = []
    found = ask(classifier(), data=data, run=Run(say=said.append))
    assert found.report["files"] == {"not_images": ["class0/notes.txt", "class1/Thumbs.db"]}
    assert "2 files skipped, not images by their names: class0/notes.txt, class1/Thumbs.db" in said


def test_absorb_lets_the_graph_take_pixels(ask: Ask) -> None:
    found = ask(classifier(), absorb=True, mean=(128.0, 128.0, 128.0), std=(64.0, 64.0, 64.0))
    (given,) = session_of(found).get_inputs()
    assert (given.name, given.type, given.shape) == (front.IMAGE, "tensor(uint8)", ["N", 16, 16, 3])
    assert found.report["top1"]["shipped"] == 1.0
    assert found.report["operators_in_float"] == {}


def test_a_graph_that_gives_one_number_for_each_image_absorbs_its_front_as_well(ask: Ask) -> None:
    model = classifier()
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.append(node("ReduceMax", ["scores", "axes"], "y", keepdims=0))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"]))
    found = ask(model, absorb=True, insist=True)
    assert found.report["front"] == {"front": "absorbed", "front_exact": True, "front_agreement": 1.0}
    assert found.report["precision"] == "int8"


def test_a_batch_that_no_memory_holds_is_an_error_where_the_size_is_open_too(ask: Ask) -> None:
    with pytest.raises(EdgekdError, match="the input x of the graph takes 3298534883328 values at once"):
        ask(classifier(4096, ("h", "w")), sizes=((16384, 16384),))


def test_scores_of_another_rank_than_the_file_declares_are_judged(ask: Ask) -> None:
    """As it is, the file keeps what it declares, [N, 3]; it gives [N]."""
    model = classifier()
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.append(node("ReduceMax", ["scores", "axes"], "y", keepdims=0))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
    found = ask(model, "quantize.precision=float", task="classification")
    assert (found.report["precision"], found.report["agreement_with_float"]) == ("float", 1.0)


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
    assert found.report["samples_judged"] == 10, "of 60, those that did not calibrate"
    assert found.report["sqnr_db"] > 15, "samples that were not seen reach a little beyond the ranges"
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
        (classifier, {"samples": 500}, "500 calibration samples are asked for, the folder holds 120"),
        (not_finite, {}, 'the tensor "'),
        (lambda: classifier(sides=("H", "W")), {}, "the input x has no fixed height and width"),
        (classifier, {"sizes": ((8, 8),)}, "--size 8x8, but the input x is [N, 3, 16, 16]"),
        (two_inputs, {}, "the graph has 2 inputs (x, more), images are one"),
        (classifier, {"data": Path("nowhere")}, "no data folder nowhere"),
        (classifier, {"std": (0.0, 1.0, 1.0)}, "--mean must be numbers, and --std numbers above 0"),
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
        (["--set", "prune.steps=3"], 'error: --set: unknown table "prune"'),
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
    assert done.stderr.startswith("error: net.onnx is not an ONNX file")


def test_a_budget_that_cannot_be_judged_here_is_refused(ask: Ask) -> None:
    with pytest.raises(EdgekdError, match='unknown key "max_size_kb"'):
        ask(classifier(), "budget.max_size_kb=1")
    with pytest.raises(EdgekdError, match="study draws from train"):
        ask(classifier(), "quantize.study=3")


def test_a_folder_that_holds_other_files_is_not_replaced(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "dist/net-arm64").mkdir(parents=True)
    (tmp_path / "dist/net-arm64/precious.txt").write_text("mine")
    with pytest.raises(EdgekdError, match="holds other files"):
        ask(classifier())
    assert (tmp_path / "dist/net-arm64/precious.txt").read_text() == "mine"


def test_a_result_is_replaced_by_the_next_one(ask: Ask) -> None:
    first = ask(classifier(), "quantize.reduce_range=true")
    before = (first.folder / "model.onnx").read_bytes()
    again = ask(classifier())
    assert (again.folder / "model.onnx").read_bytes() != before


def with_outputs(model: ModelProto, *nodes: onnx.NodeProto, **values: Any) -> ModelProto:
    """Add nodes, their constants, and an output for each node but those whose output another reads."""
    model.graph.node.extend(nodes)
    read = {name for each in nodes for name in each.input}
    for name, value in values.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    for each in nodes:
        if each.output[0] not in read:
            model.graph.output.append(helper.make_tensor_value_info(each.output[0], TensorProto.FLOAT, ["N", 4]))
    return model


def test_every_output_counts_the_worst_one_decides(ask: Ask) -> None:
    """The second output is a hundred-thousandth of the range of its tensor: integers lose it whole."""
    tiny = with_outputs(
        classifier(), node("Mul", ["f", "some"], "m"), node("MatMul", ["m", "mix"], "second"),
        some=np.array([1e5, *[1.0] * 15], np.float32),
        mix=np.vstack([np.zeros((1, 4)), np.eye(15, 4)]).astype(np.float32),
    )  # fmt: skip
    found = ask(tiny, "budget.max_accuracy_drop=0.05")
    assert found.report["precision"] == "float" or found.report["quantization"]["in_float"]
    assert found.report["lost"] <= 0.05
    assert found.report["top1"] is None


def test_a_constant_output_stays(ask: Ask) -> None:
    model = classifier()
    model.graph.initializer.append(numpy_helper.from_array(np.arange(6, dtype=np.float32), "anchors"))
    model.graph.output.append(helper.make_tensor_value_info("anchors", TensorProto.FLOAT, [6]))
    found = ask(model)
    session = session_of(found)
    name = session.get_inputs()[0].name
    answers = session.run(["anchors"], {name: np.zeros((1, 3, 16, 16), np.float32)})
    assert answers[0].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_dead_channel_keeps_its_bias(ask: Ask) -> None:
    model = classifier()
    for value in model.graph.initializer:
        array = numpy_helper.to_array(value).copy()
        if value.name == "w1":
            array[5] = 0
        if value.name == "b1":
            array[5] = 0.4
        value.CopyFrom(numpy_helper.from_array(array, value.name))
    found = ask(model, std=(1.0, 1.0, 1.0), mean=(128.0, 128.0, 128.0))
    assert found.report["precision"] == "int8"
    values = [numpy_helper.to_array(value) for value in onnx.load(found.folder / "model.onnx").graph.initializer]
    (bias,) = [value for value in values if value.dtype == np.int32 and value.shape == (16,) and value.any()]
    assert bias[5] > 10, "in steps of 1 times the pixels' scale it would be 0"


def test_a_dead_channels_scale_is_its_layers_largest() -> None:
    from edgekd.quantize.grid import has_dead_channel, weight_scales
    from edgekd.target import Int8

    weight = np.array([[1.27, 0.5], [0.0, 0.0], [2.54, 1.0]], np.float32)
    assert has_dead_channel(weight)
    assert weight_scales(weight, Int8()).tolist() == pytest.approx([0.01, 0.02, 0.02])


def test_dropout_and_identity_do_not_hide_a_tensor_from_calibration(ask: Ask) -> None:
    plain, hidden = classifier(), classifier()
    for model, kinds in ((plain, ["Exp"]), (hidden, ["Exp", "Dropout", "Identity"])):
        nodes, source = list(model.graph.node), "p"
        for number, kind in enumerate(kinds):
            nodes.insert(3 + number, node(kind, [source], f"e{number}"))
            source = f"e{number}"
        nodes[3 + len(kinds)].input[0] = source
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    ratios = [ask(model).report["sqnr_db"] for model in (plain, hidden)]
    assert ratios[0] == pytest.approx(ratios[1], abs=0.5)


@pytest.mark.parametrize("opset", [11, 12])
def test_an_old_opset_is_brought_up_to_date(ask: Ask, opset: int) -> None:
    model = classifier()
    model.opset_import[0].version = opset
    model.ir_version = 6
    found = ask(model)
    assert found.report["top1"]["shipped"] == 1.0


def test_constants_that_are_listed_as_inputs_are_none(ask: Ask) -> None:
    model = classifier()
    for value in model.graph.initializer:
        model.graph.input.insert(0, helper.make_tensor_value_info(value.name, value.data_type, list(value.dims)))
    found = ask(model, absorb=True)
    assert [given.name for given in session_of(found).get_inputs()] == ["image"]


@pytest.mark.parametrize("shape", [[], [1], [1, 1], [1, 3]])
def test_a_gemms_bias_may_have_any_shape_that_broadcasts(ask: Ask, shape: list[int]) -> None:
    model = classifier()
    for value in model.graph.initializer:
        if value.name == "b2":
            value.CopyFrom(numpy_helper.from_array(np.full(shape, 0.25, np.float32), "b2"))
    assert ask(model).report["top1"]["shipped"] == 1.0


@pytest.mark.parametrize(("batch", "judged"), [(4, 76), (35, 70)])
def test_a_fixed_batch_leaves_out_what_does_not_fill_one(ask: Ask, batch: int, judged: int) -> None:
    found = ask(classifier(batch=batch), samples=42)
    assert found.report["samples_judged"] == judged, "of 78"


def test_a_float_file_that_does_not_know_the_folders_is_judged_by_agreement(ask: Ask) -> None:
    """Its classes come in another order than the folders: top-1 would be meaningless."""
    model = classifier()
    for value in model.graph.initializer:
        if value.name == "w2":
            value.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(value), 1, axis=0), "w2"))
    found = ask(model)
    assert found.report["top1"] is None
    assert found.report["agreement_with_float"] == 1.0


def test_per_tensor_stays_per_tensor_under_learned_rounding(ask: Ask) -> None:
    found = ask(classifier(), "quantize.per_channel=false", "quantize.rounding=optq")
    graph_ = onnx.load(found.folder / "model.onnx").graph
    values = {value.name: numpy_helper.to_array(value) for value in graph_.initializer}
    scales = [values[each.input[1]] for each in graph_.node if each.op_type == "DequantizeLinear"]
    assert max(scale.size for scale in scales) == 1
    assert found.report["top1"]["shipped"] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"absorb": True, "data": "npz"}, "--absorb is about images"),
        ({"mean": (float("nan"), 0.0, 0.0)}, "--mean must be numbers"),
    ],
)
def test_options_that_do_not_fit_are_refused(ask: Ask, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    if change.get("data") == "npz":
        change["data"] = arrays_in(tmp_path / "npz")
    with pytest.raises(EdgekdError) as caught:
        ask(two_inputs() if "data" in change else classifier(), samples=20, **change)
    assert message in caught.value.message


def test_a_damaged_npz_is_named(ask: Ask, tmp_path: Path) -> None:
    folder = arrays_in(tmp_path / "npz")
    (folder / "0.npz").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(EdgekdError, match=r"cannot read 0.npz"):
        ask(two_inputs(), data=folder, samples=20)


def test_what_is_refused_lies_beside_the_float_file_and_ships_where_the_user_insists(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "mymetric.py").write_text("def most(parent, found):\n    return 0.9\n")
    metric = ref.resolve("mymetric:most", tmp_path)
    refused = ask(classifier(), "quantize.effort=quick", metric=metric)
    assert refused.report["precision"] == "float"
    assert sorted(file.name for file in refused.folder.iterdir()) == ["int8.onnx", "model.onnx", "report.json"]
    assert refused.report["refused"]["file"] == "int8.onnx"
    assert any("--ship int8 ships it" in line for line in lines(refused))
    insisted = ask(classifier(), metric=metric, insist=True)
    assert insisted.report["precision"] == "int8"
    assert insisted.report["shipped_because"] == "as --ship asks, although int8 loses 90.00 % by mymetric:most"
    assert sorted(file.name for file in insisted.folder.iterdir()) == ["model.onnx", "report.json"]


def test_without_labels_an_output_is_no_classes_until_the_user_says_so(
    ask: Ask, pictures: Path, tmp_path: Path
) -> None:
    together = tmp_path / "together"
    together.mkdir()
    for file in pictures.glob("*/*.png"):
        (together / f"{file.parent.name}-{file.name}").write_bytes(file.read_bytes())
    found = ask(classifier(), data=together)
    assert (found.report["top1"], found.report["agreement_with_float"]) == (None, None)
    assert found.report["measure"] == '% of the variance of "y"'
    told = ask(classifier(), data=together, task="classification")
    assert told.report["agreement_with_float"] == 1.0
    assert told.report["outputs"][0]["kind"] == "classes"


def test_a_budget_says_what_it_measures_and_the_users_metric_decides(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "mymetric.py").write_text("def half(parent, found):\n    return 0.5\n")
    metric = ref.resolve("mymetric:half", tmp_path)
    found = ask(classifier(), "budget.max_accuracy_drop=0.4", "quantize.effort=quick", metric=metric)
    assert (found.report["precision"], found.report["shipped_because"]) == (
        "float",
        "int8 loses 50.00 % by mymetric:half",
    )
    within = ask(classifier(), "budget.max_accuracy_drop=0.5", metric=metric)
    assert within.report["precision"] == "int8"
    assert any("max_accuracy_drop asked 0.5, got 0.5 (by mymetric:half)" in line for line in lines(within))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "clasification"], 'error: --task "clasification" is unknown'),
        (["--metric", "nowhere"], 'error: "nowhere" is not of the form module:callable'),
        (["--metric", "nowhere:at_all"], 'error: "nowhere:at_all" does not import'),
        (["--ship", "float"], 'error: --ship "float" is unknown'),
        (["--effort", "great"], 'error: --set: quantize.effort = "great"'),
        (["--set", 'quantize.float=["nobody"]'], 'error: quantize.float: no node is named "nobody"'),
    ],
)
def test_a_wrong_word_is_one_line(tmp_path: Path, pictures: Path, arguments: list[str], message: str) -> None:
    test_a_wrong_option_is_one_line(tmp_path, pictures, arguments, message)
