"""How graphs are fed: sizes, colours and arrays as a user names them, and a file whose dimensions stay as they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image

from edgekd import host, ship
from edgekd import target as targets
from edgekd.bench.measure import Measured
from edgekd.errors import EdgekdError
from edgekd.recipe import alone
from edgekd.run import Run
from edgekd.standalone.asked import Request, check
from edgekd.standalone.quantize import Quantized, lines, quantize_file
from tests.conftest import twice_as_fast
from tests.quantize.graphs import graph, node

COLOURS = np.array([[220, 90, 30], [40, 200, 90], [20, 70, 190]])
HERE = {"x86_64": "cpu", "aarch64": "arm64"}[host.this().architecture]
Ask = Callable[..., Quantized]


def tells_colours(channels: int = 3, given: list[Any] | None = None, first: bool = True) -> ModelProto:
    """Conv, Relu, GlobalAveragePool, Flatten, Gemm: three scores, one for the strongest of three channels of `x`."""
    generator = np.random.default_rng(0)
    mixed = np.concatenate([np.eye(3, channels), generator.standard_normal((13, channels)) * 0.05])
    values = {
        "w1": np.pad(mixed.reshape(16, channels, 1, 1), [(0, 0), (0, 0), (1, 1), (1, 1)]),
        "b1": np.full(16, 1.0), "w2": np.eye(3, 16) * 4, "b2": np.zeros(3),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x" if first else "t", "w1", "b1"], "c", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], "r"),
        node("GlobalAveragePool", ["r"], "p"),
        node("Flatten", ["p"], "f"),
        node("Gemm", ["f", "w2", "b2"], "y", transB=1),
    ]
    turn = [] if first else [node("Transpose", ["x"], "t", perm=[0, 3, 1, 2])]
    return graph([*turn, *nodes], values, given or ["N", channels, "H", "W"], ["N", 3])


def dense(given: list[Any] | None = None) -> ModelProto:
    """Two convolutions: an output as large as the image."""
    generator = np.random.default_rng(1)
    values = {
        "w1": generator.standard_normal((16, 3, 3, 3)) * 0.3, "b1": generator.standard_normal(16) * 0.1,
        "w2": generator.standard_normal((4, 16, 3, 3)) * 0.1, "b2": generator.standard_normal(4),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w1", "b1"], "c", pads=[1] * 4),
        node("Relu", ["c"], "r"),
        node("Conv", ["r", "w2", "b2"], "y", pads=[1] * 4),
    ]
    return graph(nodes, values, given or ["N", 3, "H", "W"], ["N", 4, "h", "w"])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of each of three colours thirty, twice as wide as high."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for label, colour in enumerate(COLOURS):
        (folder / f"class{label}").mkdir()
        for number in range(30):
            noisy = (colour + generator.normal(0, 25, (16, 32, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"class{label}" / f"{number}.png")
    return folder


@pytest.fixture
def ask(tmp_path: Path, pictures: Path) -> Ask:
    def quantize(model: ModelProto, *settings: str, samples: int = 40, **given: Any) -> Quantized:
        onnx.save(model, tmp_path / "net.onnx")
        request = Request(
            model=tmp_path / "net.onnx",
            data=given.pop("data", pictures),
            target=targets.load(given.pop("target", "arm64")),
            settings=alone({"samples": samples}, ["bench.rounds=5", *settings]),
            out=tmp_path / "dist",
            **given,
        )
        check(request)
        return quantize_file(request, Run())

    return quantize


def session_of(found: Quantized) -> Any:
    return ort.InferenceSession(str(found.folder / "model.onnx"), providers=["CPUExecutionProvider"])


def shapes(values: Any) -> list[Any]:
    return [value.shape for value in values]


def test_a_size_is_calibrated_at_and_not_written_into_the_file(ask: Ask) -> None:
    found = ask(dense(), sizes=((16, 24),))
    session = session_of(found)
    assert found.report["precision"] == "int8"
    assert shapes(session.get_inputs()) == [["N", 3, "H", "W"]]
    assert shapes(session.get_outputs()) == [["N", 4, "h", "w"]]
    for sides in ((16, 24), (9, 40)):
        assert session.run(None, {"x": np.zeros((2, 3, *sides), np.float32)})[0].shape == (2, 4, *sides)


def test_open_sides_stay_open_where_the_graph_is_to_take_pixels(ask: Ask) -> None:
    found = ask(tells_colours(), sizes=((16, 24),), absorb=True, mean=(128.0,), std=(64.0,))
    session = session_of(found)
    assert shapes(session.get_inputs()) == [["N", "H", "W", 3]]
    assert found.report["operators_in_float"] == {}
    image = np.broadcast_to(COLOURS[1].astype(np.uint8), (1, 7, 50, 3))
    assert session.run(None, {"image": image})[0].argmax(1).tolist() == [1]


def test_integers_of_an_open_graph_are_those_of_the_same_graph_at_the_size(ask: Ask) -> None:
    """Names of dimensions do not change what is quantized: the weights and all qparams are the same."""
    constants = []
    for given in (["N", 3, "H", "W"], ["N", 3, 16, 24]):
        found = ask(dense(given), sizes=((16, 24),))
        graph_ = onnx.load(found.folder / "model.onnx").graph
        constants.append({value.name: numpy_helper.to_array(value) for value in graph_.initializer})
    assert constants[0].keys() == constants[1].keys()
    assert all(np.array_equal(value, constants[1][name]) for name, value in constants[0].items())


def test_several_sizes_are_calibrated_and_judged_each(ask: Ask, tmp_path: Path) -> None:
    found = ask(dense(), sizes=((16, 16), (8, 40)))
    report = found.report
    assert (report["precision"], report["samples_calibrated"], report["samples_judged"]) == ("int8", 40, 50)
    assert report["fed"]["sizes"] == [[16, 16], [8, 40]]
    assert report["sqnr_db"] > 20
    assert any("16×16, 8×40 (stretch); its speed is judged at 16×16" in line for line in lines(found))


def test_a_size_of_minus_1_is_an_open_one(ask: Ask) -> None:
    found = ask(dense([-1, 3, -1, -1]), sizes=((16, 24),))
    assert found.report["precision"] == "int8"
    assert session_of(found).run(None, {"x": np.zeros((2, 3, 9, 40), np.float32)})[0].shape == (2, 4, 9, 40)


def test_each_image_is_answered_once_whatever_its_size(ask: Ask) -> None:
    """Labels follow the images that are dealt over the sizes: else top-1 would be that of chance."""
    found = ask(tells_colours(), sizes=((16, 16), (8, 40), (20, 12)))
    assert found.report["top1"] == {"float": 1.0, "shipped": 1.0}
    assert found.report["samples_judged"] == 50


@pytest.mark.parametrize("name", ["yunet_n_dynamic.onnx"])
@pytest.mark.data
def test_a_detector_of_others_keeps_its_open_sides(name: str, tmp_path: Path, ask: Ask) -> None:
    file = Path(__file__).parents[3] / "shared/data/wild" / name
    if not file.is_file():
        pytest.skip("no models of others beside the checkout")
    found = ask(
        onnx.load(file), "quantize.equalise=false", "quantize.absorb_bias=false", "quantize.rounding=nearest",
        "budget.max_accuracy_drop=1.0", sizes=((64, 64), (96, 160)), colour="bgr", std=(1.0,), samples=8,
    )  # fmt: skip
    assert found.report["precision"] == "int8"
    assert shapes(session_of(found).get_inputs()) == [["batch", 3, "height", "width"]]


@pytest.mark.parametrize(
    ("fed", "right"), [("rgb", [0, 1, 2]), ("bgr", [2, 1, 0])], ids=["as they are", "turned round"]
)
def test_the_colours_come_in_the_order_that_is_asked_for(ask: Ask, pictures: Path, fed: str, right: list[int]) -> None:
    """The graph names the strongest channel: with BGR the first and the last class change places."""
    model = tells_colours()
    for value in model.graph.initializer:
        if value.name == "w2":
            value.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(value)[right], "w2"))
    found = ask(model, sizes=((16, 16),), colour=fed)
    assert found.report["top1"] == {"float": 1.0, "shipped": 1.0}
    assert found.report["fed"]["colour"] == fed.upper()


def test_mean_and_std_are_in_the_order_that_is_fed(ask: Ask) -> None:
    """With the mean of blue first and BGR pixels each class is strongest where it lies farthest above its mean."""
    model = tells_colours()
    for value in model.graph.initializer:
        if value.name == "w2":
            value.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(value)[::-1].copy(), "w2"))
    found = ask(model, sizes=((16, 16),), colour="bgr", mean=(100.0, 110.0, 90.0), std=(50.0, 60.0, 70.0))
    assert found.report["top1"]["float"] == 1.0
    fed = found.report["fed"]
    assert (fed["mean"], fed["std"]) == ([100.0, 110.0, 90.0], [50.0, 60.0, 70.0])


@pytest.mark.parametrize("absorb", [False, True])
def test_a_graph_of_one_channel_is_fed_grey(ask: Ask, absorb: bool) -> None:
    found = ask(tells_colours(1), sizes=((16, 16),), mean=(100.0,), std=(50.0,), absorb=absorb)
    session = session_of(found)
    assert shapes(session.get_inputs()) == [["N", "H", "W", 1] if absorb else ["N", 1, "H", "W"]]
    assert found.report["precision"] == "int8"
    assert found.report["fed"] == {
        "kind": "images", "input": "image" if absorb else "x", "type": "uint8" if absorb else "float32",
        "layout": "NHWC" if absorb else "NCHW", "colour": "grey", "sizes": [[16, 16]], "resize": "stretch",
        "normalised": "in the graph" if absorb else "by the caller", "mean": [100.0], "std": [50.0],
    }  # fmt: skip


@pytest.mark.parametrize(("rule", "top1"), [("stretch", 1.0), ("crop", 1.0), ("letterbox", None)])
def test_a_letterbox_is_what_the_graph_sees(ask: Ask, rule: str, top1: float | None) -> None:
    """This graph looks at the top rows alone: letterboxed, those of a wide image are grey, and no class is right."""
    model = tells_colours()
    model.graph.node.insert(0, node("Slice", ["x", "from", "to", "along"], "top"))
    model.graph.node[1].input[0] = "top"
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array([value], np.int64), name)
        for name, value in (("from", 0), ("to", 3), ("along", 2))
    )
    found = ask(model, "quantize.precision=float", sizes=((16, 16),), resize=rule)
    assert found.report["fed"]["resize"] == rule
    assert f"({rule})" in lines(found)[2]
    assert (found.report["top1"] or {"float": None})["float"] == top1


def test_channels_last_are_told_and_fed(ask: Ask) -> None:
    found = ask(tells_colours(given=["N", "H", "W", 3], first=False), sizes=((16, 16),))
    assert found.report["fed"]["layout"] == "NHWC"
    assert found.report["top1"] == {"float": 1.0, "shipped": 1.0}


def strided() -> ModelProto:
    """Takes sides of 16 only: its output is reshaped to four columns."""
    model = dense()
    model.graph.node[-1].output[0] = "last"
    model.graph.node.append(node("Reshape", ["last", "shape"], "y"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0, 4, 256], np.int64), "shape"))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 256]))
    return model


@pytest.mark.parametrize(
    ("model", "given", "message", "hint"),
    [
        (dense, {}, "the input x has no fixed height and width", "--size 224"),
        (strided, {"sizes": ((16, 16), (8, 8))}, "--size 8x8: the graph does not take the data", "multiples of 32"),
        (lambda: dense([4, 3, "H", "W"]), {"sizes": ((8, 8), (9, 9))}, "takes 4 images at once", "one size"),
        (lambda: dense(["N", 3, 12, "W"]), {"sizes": ((8, 8),)}, "but the input x is [N, 3, 12, any]", "another size"),
        (dense, {"sizes": ((8, 8),), "colour": "grey"}, "--colour grey has 1 channel(s)", "rgb or bgr"),
        (lambda: tells_colours(1), {"sizes": ((8, 8),), "colour": "rgb"}, "--colour rgb has 3 channel(s)", "grey"),
        (lambda: tells_colours(1), {"sizes": ((8, 8),), "mean": (1.0, 2.0, 3.0)}, "--mean has 3 numbers", "one number"),
        (dense, {"sizes": ((8, 8), (9, 9)), "samples": 1}, "--samples 1 is less than one for each of 2", "more"),
    ],
)
def test_what_cannot_be_fed_is_said_before_any_image_is_read(
    ask: Ask, tmp_path: Path, model: Callable[[], ModelProto], given: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(EdgekdError) as caught:
        ask(model(), **given)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert not (tmp_path / "dist").exists()


def test_speed_is_judged_on_what_was_asked_for(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several sizes the first: both files are fed the same images, none of 1×1."""
    seen: list[dict[str, Any]] = []

    def measured(models: Any, settings: Any, config: Any, feeds: Any) -> Measured:
        seen.append({name: {key: value.shape for key, value in feed.items()} for name, feed in feeds.items()})
        return twice_as_fast(models, settings, config, feeds)

    monkeypatch.setattr(ship, "measure", measured)
    found = ask(dense(), target=HERE, sizes=((24, 16), (8, 8)))
    assert found.report["precision"] == "int8"
    assert seen == [{name: {"x": (1, 3, 24, 16)} for name in ("float", "wanted")}]


# Arrays.


def stateful(batch: str = "N") -> ModelProto:
    """x [N, 8, T] and a state [2, N, 4]: a convolution over T, its mean beside the state's sum; both come out."""
    generator = np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "w", "b"], "c"),
        node("Relu", ["c"], "r"),
        node("Conv", ["r", "w2", "b2"], "frames"),
        node("GlobalAveragePool", ["frames"], "p"),
        node("Flatten", ["p"], "f"),
        node("ReduceSum", ["state", "first"], "s", keepdims=0),
        node("Add", ["f", "s"], "y"),
        node("Mul", ["state", "half"], "state_out"),
    ]
    values = {
        "w": generator.standard_normal((16, 8, 1)) * 0.3, "b": np.zeros(16),
        "w2": generator.standard_normal((4, 16, 1)), "b2": np.zeros(4), "half": np.array(0.5), "first": np.array([0]),
    }  # fmt: skip
    model = graph(nodes, values, [batch, 8, "T"], [batch, 4])
    model.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, batch, 4]))
    for name, shape in (("state_out", [2, batch, 4]), ("frames", [batch, 4, "T"])):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return model


def files_in(folder: Path, widths: list[int], rows: int = 1) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number, width in enumerate(widths):
        np.savez(
            folder / f"{number:02}.npz",
            x=generator.standard_normal((rows, 8, width)).astype(np.float32),
            state=generator.standard_normal((2, rows, 4)).astype(np.float32),
        )
    return folder


def test_a_batch_may_be_the_second_axis_and_every_sample_of_its_own_width(ask: Ask, tmp_path: Path) -> None:
    found = ask(stateful(), data=files_in(tmp_path / "npz", [5, 9, 5, 12] * 6), samples=16)
    report = found.report
    assert (report["samples_calibrated"], report["samples_judged"]) == (16, 8)
    assert report["judged_on"] == "samples that did not calibrate"
    assert report["fed"]["inputs"] == {"x": "float32 [N, 8, any]", "state": "float32 [2, N, 4]"}
    assert report["precision"] == "int8"
    assert report["sqnr_db"] > 15
    assert shapes(session_of(found).get_inputs()) == [["N", 8, "T"], [2, "N", 4]]


def test_int8_of_arrays_is_near_float_on_data_of_its_own(ask: Ask, tmp_path: Path) -> None:
    model = stateful()
    found = ask(model, data=files_in(tmp_path / "npz", [7] * 6, rows=10), samples=40)
    parent = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(9)
    given = {
        "x": generator.standard_normal((3, 8, 21)).astype(np.float32),
        "state": generator.standard_normal((2, 3, 4)).astype(np.float32),
    }
    for wanted, got in zip(parent.run(None, given), session_of(found).run(None, given), strict=True):
        assert np.abs(wanted - got).max() < 0.2 * np.abs(wanted).max()


def test_where_all_samples_are_asked_for_a_quarter_judges(ask: Ask, tmp_path: Path) -> None:
    found = ask(stateful(), data=files_in(tmp_path / "npz", [7] * 4, rows=5), samples=20)
    assert (found.report["samples_calibrated"], found.report["samples_judged"]) == (15, 5)
    assert not any("calibrated on" in line for line in lines(found))


def test_a_single_sample_judges_itself_and_the_report_says_so(ask: Ask, tmp_path: Path) -> None:
    found = ask(stateful(), data=files_in(tmp_path / "npz", [7]), samples=1)
    assert found.report["judged_on"] == "the calibration samples"
    assert any("judged by the samples that it was calibrated on" in line for line in lines(found))
    assert json.loads((found.folder / "report.json").read_text())["judged_on"] == "the calibration samples"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sizes": ((8, 8),)}, "--size is about images"),
        ({"colour": "bgr"}, "--colour is about images"),
        ({"resize": "crop"}, "--resize is about images"),
    ],
)
def test_options_about_images_do_not_go_with_arrays(
    ask: Ask, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(EdgekdError, match=message):
        ask(stateful(), data=files_in(tmp_path / "npz", [7] * 4), samples=2, **given)


# Float as it is.


def with_branch() -> ModelProto:
    """y = x + 1 where the first pixel is above 0, else x - 1."""
    branches = {
        name: helper.make_graph(
            [helper.make_node(kind, ["x", "one"], [f"{name}_y"])], name, [],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)],
        )
        for name, kind in (("then", "Add"), ("else", "Sub"))
    }  # fmt: skip
    nodes = [
        node("ReduceSum", ["x"], "sum", keepdims=0),
        node("Greater", ["sum", "zero"], "positive"),
        node("If", ["positive"], "y", then_branch=branches["then"], else_branch=branches["else"]),
    ]
    return graph(nodes, {"zero": np.array(0.0), "one": np.array(1.0)}, ["N", 3, "H", "W"], ["N", 3, "H", "W"])


def quantized_already() -> ModelProto:
    constants = {"s": np.float32(0.02), "z": np.uint8(128)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = graph(nodes, {}, ["N", 3, "H", "W"], ["N", 3, "H", "W"])
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
    )
    return model


def of_opset_11() -> ModelProto:
    """With its constants among its inputs, as files of that time have them."""
    model = dense()
    model.opset_import[0].version, model.ir_version = 11, 6
    for value in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(value.name, value.data_type, list(value.dims)))
    return model


@pytest.mark.parametrize(
    "model",
    [
        lambda: graph([node("Relu", ["x"], "y")], {}, ["N", 3, "H", "W"], ["N", 3, "H", "W"]),
        with_branch,
        quantized_already,
        of_opset_11,
        dense,
    ],
    ids=["nothing to quantize", "a branch", "quantized already", "an old opset", "a plain one"],
)
def test_float_ships_any_graph_as_it_is(ask: Ask, tmp_path: Path, model: Callable[[], ModelProto]) -> None:
    found = ask(model(), "quantize.precision=float", sizes=((8, 8),), samples=512)
    assert (found.report["precision"], found.report["shipped_because"]) == ("float", "as quantize.precision asks")
    assert (found.report["samples_calibrated"], found.report["samples_judged"]) == (0, 90)
    assert onnx.load(found.folder / "model.onnx") == onnx.load(tmp_path / "net.onnx")


def refused() -> list[tuple[Callable[[], ModelProto], str]]:
    return [
        (lambda: graph([node("Relu", ["x"], "y")], {}, ["N", 3, 8, 8], ["N", 3, 8, 8]), "no operator that int8"),
        (with_branch, "branches or loops"),
    ]


@pytest.mark.parametrize(("model", "message"), refused())
def test_a_hint_names_an_option_that_works(ask: Ask, model: Callable[[], ModelProto], message: str) -> None:
    with pytest.raises(EdgekdError, match=message) as caught:
        ask(model(), sizes=((8, 8),))
    setting = caught.value.hint.partition("--set ")[2].split()[0]
    assert ask(model(), setting, sizes=((8, 8),)).report["precision"] == "float"
