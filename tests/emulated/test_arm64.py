"""The shipped file gives the golden logits, bit for bit, on the arm64 onnxruntime."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import pytest

if TYPE_CHECKING:
    from sandbox import Sandbox

pytestmark = pytest.mark.emulated

GUEST = Path(__file__).with_name("guest.py")
DOTPROD = {"cortex-a53": False, "neoverse-n1": True}  # two CPUs that take different int8 kernels


def compare(sandbox: "Sandbox", model: Path, golden: Path, cpu: str) -> dict[str, Any]:
    """What guest.py says of `model` and `golden` on the emulated `cpu`."""
    done = sandbox.run_python(GUEST, model, golden, cpu=cpu)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("cpu", DOTPROD)
def test_every_row_is_bit_equal_on_arm64(sandbox: "Sandbox", arm64_bundle: Path, cpu: str) -> None:
    golden = arm64_bundle / "golden.npz"
    with np.load(golden) as data:
        rows = len(data["logits"])
    assert compare(sandbox, arm64_bundle / "model.onnx", golden, cpu) == {
        "machine": "aarch64",
        "dotprod": DOTPROD[cpu],
        "onnxruntime": onnxruntime.__version__,
        "max_abs_diff": 0.0,
        "rows": rows,
        "rows_equal": rows,
        "argmax_equal": rows,
    }


def test_one_logit_off_by_one_step_is_seen(sandbox: "Sandbox", arm64_bundle: Path, tmp_path: Path) -> None:
    with np.load(arm64_bundle / "golden.npz") as data:
        images, logits = data["image"], data["logits"]
    step = np.diff(np.unique(logits)).min()
    logits[3, 0] += step
    np.savez(tmp_path / "off.npz", image=images, logits=logits)
    report = compare(sandbox, arm64_bundle / "model.onnx", tmp_path / "off.npz", "neoverse-n1")
    assert report["rows_equal"] == report["rows"] - 1
    assert report["max_abs_diff"] == pytest.approx(step, rel=1e-3)


def test_one_flipped_weight_bit_is_seen(sandbox: "Sandbox", arm64_bundle: Path, tmp_path: Path) -> None:
    with np.load(arm64_bundle / "golden.npz") as data:
        images, wanted = data["image"], data["logits"]
    # A weight behind a dead channel changes nothing, so the first that matters on this machine is taken.
    matters = (m for m in flipped(arm64_bundle / "model.onnx") if (logits(m, images) != wanted).any())
    (tmp_path / "flipped.onnx").write_bytes(next(matters))
    report = compare(sandbox, tmp_path / "flipped.onnx", arm64_bundle / "golden.npz", "neoverse-n1")
    assert report["rows_equal"] < report["rows"]
    assert report["max_abs_diff"] > 0


def flipped(path: Path) -> Iterator[bytes]:
    """The model once per 8-bit weight tensor, the top bit of that tensor's first number flipped."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).copy()
        if values.ndim >= 2 and values.dtype.itemsize == 1:
            values.reshape(-1)[:1].view(np.uint8)[0] ^= 0x80
            before = tensor.SerializeToString()
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
            yield model.SerializeToString()
            tensor.ParseFromString(before)


def logits(model: bytes, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The logits on this machine."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    answer: np.ndarray[Any, Any] = session.run(["logits"], {"image": images})[0]
    return answer
