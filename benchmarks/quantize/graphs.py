"""Plain onnxruntime's quantizer beside ours, each as a process, and what a file answers. No torch."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from edgekd import host, runtime
from edgekd.run import Run
from edgekd.workload import gather
from edgekd.workload import images as decoding
from edgekd.workload.splits import stratified

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
NORMALISED = ["--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD))]


@dataclass(frozen=True)
class Process:
    """One command: what it said, its seconds of wall clock, and its peak memory in MB (10^6 bytes)."""

    said: str
    seconds: float
    peak_mb: float


def run(*command: str) -> Process:
    """Run a command to its end; print what it says and exit where it fails. A missed budget (3) is no failure."""
    with tempfile.TemporaryFile("w+") as said:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        peak = 0.0
        while child.poll() is None:
            peak = max(peak, _peak(child.pid))
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        said.seek(0)
        text = said.read()
    if child.returncode not in {0, 3}:
        # A process that ran out of memory says nothing itself: onnxruntime's calibrators take up to 12 GB.
        sys.exit(f"{text}\n{' '.join(command)} ended with {child.returncode}")
    return Process(text, seconds, peak)


def in_turns(script: str, ways: Sequence[str], rounds: int, *arguments: str) -> dict[str, list[Process]]:
    """Run `script ARGUMENTS --one WAY` for each way by turns, in processes of their own; print each as it ends."""
    done: dict[str, list[Process]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            process = run(sys.executable, script, *arguments, "--one", way)
            done[way].append(process)
            print(json.dumps({"way": way, "seconds": process.seconds, "peak_mb": process.peak_mb}), flush=True)
    return done


def _peak(process: int) -> float:
    """Return the most memory in MB that a process has held, by Linux' own count.

    Not by wait4, whose count begins with what this process held when it forked.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 / 1e6 if found else 0.0


def quantize(model: Path, data: Path, target: str, out: Path, *options: str) -> tuple[Path, dict[str, Any], Process]:
    """Run `edgekd quantize`; return the file, its report, and the process."""
    command = [sys.executable, "-m", "edgekd.cli", "quantize", str(model), "--data", str(data), "--target", target]
    done = run(*command, "--out", str(out), *options)
    folder = out / f"{model.stem}-{target}"
    return folder / "model.onnx", json.loads((folder / "report.json").read_text()), done


def read(folder: Path, side: int = 32) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return all images of a folder and their labels."""
    found = gather.pictures(folder)
    pixels = np.stack([decoding.read(file, (side, side)) for file in found.files])
    return pixels, found.labels if found.labels is not None else np.zeros(len(pixels), np.int64)


def normalised(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return pixels as these networks take them, [N, 3, H, W]."""
    values = (pixels.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def session_of(file: Path) -> Any:
    """Open a file so that x86 without VNNI gives the answers of machines that do not saturate."""
    return runtime.open_session(file, runtime.without_saturation(host.this(), host.cores()))


def answers(file: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits of raw pixels, for a file that takes them or one that takes normalised images."""
    session = session_of(file)
    given = session.get_inputs()[0]
    parts = []
    for start in range(0, len(pixels), 250):
        batch = pixels[start : start + 250]
        parts.append(session.run(None, {given.name: batch if "uint8" in given.type else normalised(batch)})[0])
    return np.concatenate(parts)


def top1(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the part that is right."""
    return float((logits.argmax(1) == labels).mean())


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds onnxruntime's calibrators, 32 images at a time, normalised or raw."""

    def __init__(self, name: str, pixels: NDArray[np.uint8], raw: bool = False) -> None:
        self._batches: Iterator[dict[str, NDArray[Any]]] = (
            {name: pixels[start : start + 32] if raw else normalised(pixels[start : start + 32])}
            for start in range(0, len(pixels), 32)
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next batch, or None at the end."""
        return next(self._batches, None)


def plain(
    model: Path, pixels: NDArray[np.uint8], out: Path, per_channel: bool = True, seven_bits: bool = False
) -> None:
    """Quantize by onnxruntime alone: QDQ, uint8 activations, int8 weights, min-max; a front of ours stays in float."""
    graph = onnx.load(model).graph
    raw = graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    quantize_static(
        str(model), str(out), Reader(graph.input[0].name, pixels, raw), quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=per_channel,
        reduce_range=seven_bits, calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=[node.name for node in graph.node if node.name.startswith("front_")],
    )  # fmt: skip


def calibration_of(data: Path, count: int, folder: Path) -> NDArray[np.uint8]:
    """Draw calibration images of train as `edgekd quantize` does; they stand in `folder` too."""
    found = gather.pictures(data / "train")
    assert found.labels is not None, "CIFAR-10 lies in a folder for each class"
    gather.write_pictures(found.take(stratified(found.labels, count, seed=0)), [(32, 32)], folder, Run())
    return np.asarray(np.load(folder / "images.npy"))
