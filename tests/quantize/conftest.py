"""A small float graph with edgekd's front that tells four classes apart, without torch and without training."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgekd import front
from edgekd.workload import arrays
from edgekd.workload.dataset import Split
from edgekd.workload.normalisation import Normalisation

COLOURS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [170, 170, 40]])


@dataclass(frozen=True)
class Task:
    graph: Path
    samples: Path
    images: np.ndarray
    labels: np.ndarray


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures of four colours."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, count)
    noisy = COLOURS[labels][:, None, None] + generator.normal(0, 40, (count, 12, 12, 3))
    return noisy.clip(0, 255).astype(np.uint8), labels


def body(head: np.ndarray) -> ModelProto:
    """Conv, Relu, Conv, Add, Relu, GlobalAveragePool, Gemm; the head's last row is the bias."""
    generator = np.random.default_rng(0)
    weights = {
        "w1": generator.standard_normal((8, 3, 3, 3)) * 0.25,
        "b1": generator.standard_normal(8) * 0.1,
        "w2": generator.standard_normal((8, 8, 3, 3)) * 0.15,
        "b2": generator.standard_normal(8) * 0.1,
        "w3": head[:-1],
        "b3": head[-1],
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["s"], name="add"),
        helper.make_node("Relu", ["s"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], name="gemm"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 12, 12])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", head.shape[1]])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    front.put_on(model, Normalisation())
    return model


def answer(model: ModelProto, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"image": images})[0])


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """The head is the least-squares fit to the labels of 256 pictures."""
    folder = tmp_path_factory.mktemp("task")
    images, labels = pictures(256, seed=1)
    features = answer(body(np.vstack([np.eye(8), np.zeros(8)])), images)
    widened = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
    head = np.linalg.lstsq(widened, 4 * np.eye(4)[labels], rcond=None)[0]
    onnx.save(body(head), folder / "model.onnx")
    arrays.save(Split(images, labels), folder / "samples")
    return Task(folder / "model.onnx", folder / "samples", *pictures(200, seed=2))
