"""From a network to a float graph: the same logits, no trace of the machine, the same bytes."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from edgekd import ref
from edgekd.errors import ModelError
from edgekd.export.stage import export, simplify
from edgekd.models import network
from edgekd.models.network import Plan
from edgekd.run import Run
from edgekd.workload import arrays
from edgekd.workload.dataset import Split
from edgekd.workload.normalisation import Normalisation

SPEC = "edgekd.models:digits_student"
NORMALISATION = Normalisation(mean=(120.0, 115.0, 110.0), std=(60.0, 61.0, 62.0))
RANDOM = """
import torch
from torch import nn

class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        return self.head(x.mean((2, 3)) + torch.randn(1, 3))

class Branching(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))
"""


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), np.uint8)


def save(folder: Path, spec: str) -> None:
    torch.manual_seed(0)
    made = network.build(Plan(model=spec, normalisation=NORMALISATION), ref.resolve(spec, folder))
    network.save(made, folder / "net")
    arrays.save(Split(images(70), np.zeros(70, np.int64)), folder / "samples")


def export_to(folder: Path, name: str, spec: str = SPEC) -> dict[str, Any]:
    code = ref.resolve(spec, folder)
    return dict(export.function(folder / name, Run(), folder / "net", code, folder / "samples", opset=18, ir=8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the network, samples, and the graph exported twice."""
    made = tmp_path_factory.mktemp("export")
    save(made, SPEC)
    export_to(made, "model.onnx")
    export_to(made, "again.onnx")
    return made


def logits(model: Path, pixels: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["logits"], {"image": pixels})[0])


@pytest.mark.parametrize("count", [1, 2, 37])
def test_graph_agrees_with_torch_in_float64_at_any_batch(folder: Path, count: int) -> None:
    module = network.load(folder / "net", ref.resolve(SPEC, folder)).module.eval().double()
    pixels = images(count, seed=9)
    normalised = (pixels.astype(np.float64) - np.array(NORMALISATION.mean)) / np.array(NORMALISATION.std)
    with torch.inference_mode():
        wanted = module(torch.from_numpy(normalised.transpose(0, 3, 1, 2).copy())).numpy()
    assert np.abs(logits(folder / "model.onnx", pixels) - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_pixels_go_in_and_logits_come_out(folder: Path) -> None:
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (given,), (taken,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("image", "tensor(uint8)", ["N", 16, 16, 3])
    assert (taken.name, taken.type, taken.shape) == ("logits", "tensor(float)", ["N", 10])


def test_opset_and_ir_are_as_asked_and_the_pool_is_global(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    operators = [node.op_type for node in model.graph.node]
    assert "ReduceMean" not in operators
    assert operators.count("GlobalAveragePool") == 1


def test_file_holds_no_path_of_this_machine(folder: Path) -> None:
    content = (folder / "model.onnx").read_bytes()
    for path in (str(Path.cwd()), str(Path.home()), str(folder), sys.prefix, "site-packages", "edgekd/models", ".py"):
        assert path.encode() not in content, path


def test_exporting_twice_gives_the_same_bytes(folder: Path) -> None:
    assert (folder / "model.onnx").read_bytes() == (folder / "again.onnx").read_bytes()


@pytest.mark.parametrize(
    ("spec", "message"), [("nets:Noisy", "differs from torch"), ("nets:Branching", "cannot be exported")]
)
def test_network_that_cannot_be_said_in_a_graph_is_refused(tmp_path: Path, spec: str, message: str) -> None:
    (tmp_path / "nets.py").write_text(RANDOM)
    save(tmp_path, spec)
    with pytest.raises(ModelError, match=f'"{spec}".*{message}'):
        export_to(tmp_path, "model.onnx", spec)


def test_simplified_graph_says_the_same_and_is_clean(folder: Path) -> None:
    said: list[str] = []
    metrics = simplify.function(folder / "simple.onnx", Run(say=said.append), folder / "model.onnx", folder / "samples")
    pixels = images(5, seed=3)
    before, after = logits(folder / "model.onnx", pixels), logits(folder / "simple.onnx", pixels)
    assert (metrics["skipped"], said) == ("", [])
    assert metrics["nodes"] <= metrics["nodes_before"]
    assert np.abs(before - after).max() < 1e-4 * np.abs(before).max()
    assert onnx.load(folder / "simple.onnx").ir_version == 8
    assert str(folder).encode() not in (folder / "simple.onnx").read_bytes()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("kill -SEGV $$", "onnxsim crashed with signal 11"),
        ("echo boom >&2; exit 3", "onnxsim failed: boom"),
        ("exit 0", "onnxsim failed: no message"),
    ],
)
def test_crash_of_onnxsim_leaves_the_graph_as_it_came(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    said: list[str] = []
    out = tmp_path / "out.onnx"
    metrics = simplify.function(out, Run(say=said.append), folder / "model.onnx", folder / "samples")
    assert out.read_bytes() == (folder / "model.onnx").read_bytes()
    assert metrics["skipped"] == reason
    assert said == [f"simplify: skipped, {reason}"]


def test_simplified_graph_that_says_something_else_is_not_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load(folder / "model.onnx")
    for value in model.graph.initializer:
        if value.name == "front_mean":
            value.CopyFrom(onnx.numpy_helper.from_array(np.zeros((1, 3, 1, 1), np.float32), value.name))
    onnx.save(model, tmp_path / "other.onnx")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncp "{tmp_path}/other.onnx" "$5"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    metrics = simplify.function(tmp_path / "out.onnx", Run(), folder / "model.onnx", folder / "samples")
    assert str(metrics["skipped"]).startswith("its outputs differ by ")
    assert (tmp_path / "out.onnx").read_bytes() == (folder / "model.onnx").read_bytes()


def test_a_file_named_like_a_library_shadows_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnx.py").write_text("raise RuntimeError('shadow')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    metrics = simplify.function(tmp_path / "m.onnx", Run(), folder / "model.onnx", folder / "samples")
    assert metrics["skipped"] == ""


def test_weights_that_no_protobuf_holds_are_refused_before_the_exporter_works(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekd.export.stage._PROTOBUF_BYTES", 1000)

    def never(*_: object) -> None:
        raise AssertionError("exported all the same")

    monkeypatch.setattr("edgekd.export.stage._to_onnx", never)
    with pytest.raises(ModelError, match=r'"edgekd\.models:digits_student" has 0\.00 GiB of weights, and protobuf'):
        export_to(folder, "large.onnx")
