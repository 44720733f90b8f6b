"""The stage `evaluate` gives the logits that onnxruntime gives, in order."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.evaluate.stage import agree, evaluate
from edgekd.run import Progress, Run
from edgekd.runtime import Settings
from edgekd.workload import arrays
from edgekd.workload.dataset import Split

COUNT = 260  # more than one batch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A graph whose logits are the mean of each colour, and a split labelled by the strongest one but for 20."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["float", "axes"], ["logits"], keepdims=0),
        ],
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array([1, 2]), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "m.onnx")
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), np.uint8)
    labels = images.astype(np.float64).mean((1, 2)).argmax(1)
    labels[:20] = (labels[:20] + 1) % 3
    arrays.save(Split(images, labels), tmp_path / "test")
    return tmp_path


def run(folder: Path, say: Run | None = None) -> dict[str, object]:
    return dict(
        evaluate.function(folder / "l.npy", say or Run(), folder / "m.onnx", folder / "test", Settings(), "avx2")
    )


def test_logits_and_top1_are_those_of_the_images(folder: Path) -> None:
    metrics = run(folder)
    logits = np.load(folder / "l.npy")
    wanted = arrays.load(folder / "test").images.astype(np.float64).mean((1, 2))
    assert logits.dtype == np.float32
    assert np.abs(logits - wanted).max() < 1e-3
    assert metrics["top1"] == pytest.approx((COUNT - 20) / COUNT)
    assert metrics["images"] == COUNT


def test_progress_counts_images(folder: Path) -> None:
    shown: list[Progress] = []
    run(folder, Run(show=shown.append))
    assert [progress.done for progress in shown] == [250, COUNT]
    assert {progress.total for progress in shown} == {COUNT}


def test_agree_compares_files(folder: Path) -> None:
    np.save(folder / "a.npy", np.array([[1, 0], [0, 1]], np.float32))
    np.save(folder / "b.npy", np.array([[3, 0], [2, 1]], np.float32))
    assert agree(folder / "a.npy", folder / "b.npy") == 0.5
