"""edgekd on a file of others: as the command does it, and the integers alone without the guard. No torch."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
from by_hand import taken
from numpy.typing import NDArray

from edgekd import target as targets
from edgekd.quantize import settled
from edgekd.quantize.entry import Entry
from edgekd.quantize.stage import INT8
from edgekd.quantizing import Quantizer
from edgekd.recipe import Alone, Quantize
from edgekd.run import Run
from edgekd.standalone.asked import Request
from edgekd.standalone.opening import loaded
from edgekd.standalone.quantize import Quantized, quantize_file
from edgekd.store import Store

_ROWS = 16


def guarded(file: Path, inputs: NDArray[np.float32], target: str, out: Path) -> Quantized:
    """Quantize by `edgekd quantize`: calibrated on three quarters of the inputs, the guard on. Raises EdgekdError."""
    data = out / "data"
    data.mkdir(parents=True)
    name = taken(onnx.load(file))
    for number, start in enumerate(range(0, len(inputs), _ROWS)):
        arrays = {name: inputs[start : start + _ROWS]}
        np.savez(data / f"{number:04}.npz", **arrays)  # type: ignore[arg-type]
    settings = Alone(quantize=Quantize(samples=calibrated_on(inputs)))
    request = Request(file, data, targets.load(target), settings, out / "made")
    return quantize_file(request, Run())


def calibrated_on(inputs: NDArray[np.float32]) -> int:
    """Return how many of the inputs serve the ranges; the rest are to judge by."""
    return len(inputs) * 3 // 4


def unguarded(file: Path, inputs: NDArray[np.float32], out: Path, target: str = "cpu-vnni") -> None:
    """Write edgekd's int8 file as first tried, without its guard."""
    model = loaded(file)
    settled.check(model)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        onnx.save(model, folder / "graph.onnx")
        (folder / "samples").mkdir()
        np.save(folder / "samples" / "input-0.npy", inputs)
        (folder / "samples" / "inputs.json").write_text(json.dumps([taken(model)]), encoding="utf-8")
        asked = Quantize(samples=len(inputs))
        policy = targets.load(target).policy_under(asked)
        given = (Store(folder / "store"), folder / "graph.onnx", folder / "samples", policy, asked)
        made = Quantizer(*given, Entry(kind="arrays")).first()
        shutil.copyfile(made.path / INT8, out)
