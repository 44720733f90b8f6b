"""The folder for the app: whole or not there, and true to its manifest."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd import front
from edgekd.beside import check_writable
from edgekd.bundle import write as bundle
from edgekd.bundle.manifest import Manifest
from edgekd.bundle.write import Contents, write
from edgekd.errors import EdgekdError
from edgekd.quantize.stage import INT8
from edgekd.quantizing import Quantizer
from edgekd.recipe import Quantize
from edgekd.runtime import Settings
from edgekd.store import Store
from edgekd.target import Device, Runtime, Target
from edgekd.target import Int8 as Policy
from edgekd.workload import arrays
from edgekd.workload.dataset import Split
from edgekd.workload.normalisation import Normalisation

FILES = ["golden.npz", "labels.txt", "manifest.json", "model.onnx", "report.json"]
CLASSES = ("cat", "dog", "Käfer")
TARGET = Target(
    name="board",
    description="a board",
    device=Device(architecture="aarch64"),
    runtime=Runtime(providers=("CPUExecutionProvider",), threads=2, session={"session.a": "1"}),
    int8=Policy(reduce_range=True),
)


def float_graph() -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    values = {"w": (8, 3, 3, 3), "b": (8,), "hw": (8, 3), "hb": (3,)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"], name="relu"),
            helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
            helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
            helper.make_node("Gemm", ["f", "hw", "hb"], ["logits"], name="gemm"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 10, 12])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [
            numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name)
            for name, shape in values.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    front.put_on(model, Normalisation())
    return model


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    """A float model."""
    onnx.save(float_graph(), tmp_path / "float.onnx")
    images = np.random.default_rng(1).integers(0, 256, (40, 10, 12, 3), np.uint8)
    arrays.save(Split(images, np.arange(40) % 3), tmp_path / "test")
    return Contents(
        name="toy",
        model=tmp_path / "float.onnx",
        precision="float",
        classes=CLASSES,
        target=TARGET,
        test=tmp_path / "test",
        exact_here=Settings(),
        report='{"format": 1}',
    )


@pytest.fixture
def integer(contents: Contents, tmp_path: Path) -> Contents:
    """The same, quantized."""
    policy = TARGET.int8
    assert policy is not None
    quantizer = Quantizer(Store(tmp_path / "store"), contents.model, contents.test, policy, Quantize())
    return replace(contents, model=quantizer.first().path / INT8, precision="int8")


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def read(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / "manifest.json").read_bytes())


def test_bundle_is_exactly_five_files(contents: Contents, tmp_path: Path) -> None:
    manifest = write(contents, tmp_path / "dist" / "toy-board")
    assert names(tmp_path / "dist" / "toy-board") == FILES
    assert names(tmp_path / "dist") == ["toy-board"]
    assert read(tmp_path / "dist" / "toy-board") == manifest


def test_manifest_holds_the_sha256_of_every_other_file(contents: Contents, tmp_path: Path) -> None:
    manifest = write(contents, tmp_path / "b")
    wanted = {name: hashlib.sha256((tmp_path / "b" / name).read_bytes()).hexdigest() for name in FILES}
    del wanted["manifest.json"]
    assert manifest.files == wanted


def test_files_are_what_was_given(contents: Contents, tmp_path: Path) -> None:
    write(contents, tmp_path / "b")
    assert (tmp_path / "b" / "model.onnx").read_bytes() == contents.model.read_bytes()
    assert (tmp_path / "b" / "labels.txt").read_text(encoding="utf-8") == "cat\ndog\nKäfer\n"
    assert (tmp_path / "b" / "report.json").read_text() == '{"format": 1}'


def test_manifest_says_how_to_feed_and_run_the_model(contents: Contents, tmp_path: Path) -> None:
    manifest = write(contents, tmp_path / "b")
    session = ort.InferenceSession(str(tmp_path / "b" / "model.onnx"), providers=list(manifest.providers))
    (given,), (taken,) = session.get_inputs(), session.get_outputs()
    assert (manifest.input.name, list(manifest.input.shape)) == (given.name, given.shape)
    assert (manifest.output.name, list(manifest.output.shape)) == (taken.name, taken.shape)
    assert (manifest.input.type, manifest.input.layout, manifest.input.colour) == ("uint8", "NHWC", "RGB")
    assert (manifest.opset, manifest.ir, manifest.threads) == (18, 8, 2)
    assert (manifest.name, manifest.target, manifest.session) == ("toy", "board", {"session.a": "1"})
    assert manifest.labels == CLASSES


@pytest.mark.parametrize("kind", ["contents", "integer"])
def test_golden_images_replay_one_by_one(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    given: Contents = request.getfixturevalue(kind)
    golden = write(given, tmp_path / "b").golden
    session = ort.InferenceSession(str(tmp_path / "b" / "model.onnx"), providers=["CPUExecutionProvider"])
    with np.load(tmp_path / "b" / golden.file) as data:
        images, logits = data["image"], data["logits"]
    replayed = np.concatenate([session.run(None, {"image": images[index : index + 1]})[0] for index in range(16)])
    assert (len(images), golden.images, images.dtype, logits.dtype) == (16, 16, np.uint8, np.float32)
    assert golden.exact == (kind == "integer")
    if golden.exact:
        assert golden.tolerance == 0.0
        assert np.array_equal(replayed, logits)
    else:
        assert golden.tolerance == pytest.approx(1e-3 * np.abs(logits).max())
        assert np.abs(replayed - logits).max() <= golden.tolerance


def test_golden_images_are_test_images_from_first_to_last(contents: Contents, tmp_path: Path) -> None:
    write(contents, tmp_path / "b")
    test = arrays.load(contents.test).images
    with np.load(tmp_path / "b" / "golden.npz") as data:
        assert np.array_equal(data["image"][[0, -1]], test[[0, -1]])
        assert len(np.unique(data["image"].reshape(16, -1), axis=0)) == 16


def test_fewer_test_images_than_golden_ones(contents: Contents, tmp_path: Path) -> None:
    arrays.save(arrays.load(contents.test).take(np.arange(3)), tmp_path / "few")
    assert write(replace(contents, test=tmp_path / "few"), tmp_path / "b").golden.images == 3


def test_writing_twice_gives_the_same_bytes(contents: Contents, tmp_path: Path) -> None:
    write(contents, tmp_path / "a")
    write(contents, tmp_path / "b")
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in FILES)


def test_no_file_holds_a_path_of_this_machine(integer: Contents, tmp_path: Path) -> None:
    write(integer, tmp_path / "b")
    for name in FILES:
        content = (tmp_path / "b" / name).read_bytes()
        for path in (tmp_path, Path.cwd(), Path.home(), Path(sys.prefix), "site-packages"):
            assert str(path).encode() not in content, (name, path)


def test_replacing_leaves_nothing_of_the_old_bundle(contents: Contents, tmp_path: Path) -> None:
    write(contents, tmp_path / "dist" / "b")
    (tmp_path / "dist" / "b" / "stale.txt").write_text("old")
    write(replace(contents, report="{}"), tmp_path / "dist" / "b")
    assert names(tmp_path / "dist" / "b") == FILES
    assert (tmp_path / "dist" / "b" / "report.json").read_text() == "{}"
    assert names(tmp_path / "dist") == ["b"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_old_bundle_stays_whole_when_filling_fails(
    contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    folder = tmp_path / "dist" / "b"
    write(contents, folder)
    before = {name: (folder / name).read_bytes() for name in FILES}

    def fail(*given: object) -> None:
        raise error

    monkeypatch.setattr(bundle, "_manifest", fail)
    with pytest.raises(error):
        write(replace(contents, report="{}"), folder)
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    assert names(tmp_path / "dist") == ["b"]


def test_folder_that_cannot_be_made_is_an_error_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgekdError, match="cannot write to"):
        check_writable(tmp_path / "file" / "dist")
    check_writable(tmp_path / "dist" / "inner")
    assert names(tmp_path) == ["file"]


def test_manifest_is_plain_json(contents: Contents, tmp_path: Path) -> None:
    write(contents, tmp_path / "b")
    content = json.loads((tmp_path / "b" / "manifest.json").read_text(encoding="utf-8"))
    assert content["format"] == 1
    assert content["input"]["shape"] == ["N", 10, 12, 3]
    assert list(content["files"]) == ["golden.npz", "labels.txt", "model.onnx", "report.json"]
