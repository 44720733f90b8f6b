"""Can any network be cut? Every classifier of torchvision and every backbone of its detectors, to half the MACs.

    python benchmarks/prune/zoo.py [--only NAME ...] [--seconds 900]

Random weights. Each network goes through the stages prune (keep_macs = 0.5, ranking "global"; widths in blocks of 16,
or where those cannot reach the half of 8 or 4) and export in a process of its own with a time limit; export compares
onnxruntime with torch to 1e-3 (relative) and refuses a difference. Writes benchmarks/results/prune-zoo.json: MACs
before and what is kept, the widest difference, seconds, or the reason in one line. Networks that are there already are
not run again, but for those named by --only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.errors import EdgekdError, ModelError
from edgekd.recipe import Compute, Prune
from edgekd.ref import Ref, resolve
from edgekd.run import Run
from edgekd.workload import arrays
from edgekd.workload.dataset import Images, Split

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import FOLDER, write

NAME = "prune-zoo"
_HERE = Path(__file__).parent
_IMAGES = 8
_BLOCKS = (16, 8, 4)
_TRANSFORMERS = ("vit", "swin", "maxvit")
_AUXILIARY = {"googlenet", "inception_v3"}


def main() -> None:
    """Run all networks that have no result yet, each in its own process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--one", nargs=2, metavar=("NAME", "FOLDER"), help="one network, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(cut(arguments.one[0], Path(arguments.one[1]))))
        return
    file = FOLDER / f"{NAME}.json"
    rows: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["networks"] if file.exists() else {}
    for name in arguments.only or [name for name in names() if name not in rows]:
        rows[name] = apart(name, arguments.seconds)
        print(name, rows[name], flush=True)
        found = {name: rows[name] for name in names() if name in rows}
        write(NAME, {"passed": _counts(found), "seconds_allowed": arguments.seconds, "networks": found}, quiet=True)


def names() -> list[str]:
    """Return every classifier, segmentation network and detector of torchvision."""
    from torchvision import models  # noqa: PLC0415 - only the parent lists them

    classifiers = models.list_models(module=models)
    return [*classifiers, *models.list_models(module=models.segmentation), *models.list_models(module=models.detection)]


def kind_of(name: str) -> str:
    """Return what a network is for."""
    if "rcnn" in name or name.startswith(("fcos", "retinanet", "ssd")):
        return "detector's backbone"
    if name.startswith(("fcn", "deeplab", "lraspp")):
        return "segmentation"
    return "transformer" if name.startswith(_TRANSFORMERS) else "classifier"


def apart(name: str, seconds: float) -> dict[str, Any]:
    """Cut one network in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", name, folder]
        start = time.perf_counter()
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired:
            return {"kind": kind_of(name), "passed": False, "reason": f"took more than {seconds:.0f} s"}
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
            return {"kind": kind_of(name), "passed": False, "reason": f"edgekd's bug: {last}"}
        row: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return {"kind": kind_of(name), **row, "seconds": round(time.perf_counter() - start, 1)}


def cut(name: str, folder: Path) -> dict[str, Any]:
    """Make one network with random weights, cut and export it; return its row."""
    from edgekd.export.stage import export  # noqa: PLC0415 - torch, in the child alone

    model, args, size = spec_of(name)
    code = resolve(model, _HERE)
    arrays.save(Split(_images(size), np.arange(_IMAGES)), folder / "images")
    run = Run()
    try:
        _save_random(folder / "whole", model, args, code)
        start = time.perf_counter()
        found, block = _pruned(folder, code)
        seconds = time.perf_counter() - start
        exported = export.function(folder / "model.onnx", run, folder / "narrow", code, folder / "images", 18, 10)
    except EdgekdError as error:
        return {"passed": False, "reason": error.message.splitlines()[0]}
    return {
        "passed": True,
        "macs": found["macs_before"],
        "kept": round(found["macs"] / found["macs_before"], 4),
        "difference": float(f"{exported['difference']:.2g}"),
        "block": block,
        "prune_seconds": round(seconds, 1),
    }


def _images(size: int) -> Images:
    """Return noise, each image of its own colour: else all means over pixels are alike, and BatchNorm divides by 0."""
    generator = np.random.default_rng(0)
    colours = generator.integers(0, 192, (_IMAGES, 1, 1, 3))
    return (colours + generator.integers(0, 64, (_IMAGES, size, size, 3))).astype(np.uint8)


def _pruned(folder: Path, code: Ref) -> tuple[dict[str, Any], int]:
    """Cut in the widest blocks that can reach the half; return what the stage says, and the block."""
    from edgekd.prune.stage import prune  # noqa: PLC0415 - torch, in the child alone
    from edgekd.train.device import resolve as place_of  # noqa: PLC0415

    for block in _BLOCKS:
        config = Prune(keep_macs=0.5, block=block, ranking="global")
        try:
            found = prune.function(
                folder / "narrow",
                Run(),
                folder / "whole",
                code,
                folder / "images",
                None,
                (),
                config,
                place_of(Compute()),
            )
            return dict(found), block
        except ModelError as error:
            if "keep at least" not in error.message or block == _BLOCKS[-1]:
                raise
    raise AssertionError("there are blocks")


def spec_of(name: str) -> tuple[str, dict[str, Any], int]:
    """Return the callable, its arguments, and the side of its images."""
    if kind_of(name) == "segmentation":
        return "backbones:segmentation", {"name": name}, 224
    if kind_of(name) == "detector's backbone":
        return "backbones:backbone", {"name": name}, 320 if name.startswith("ssd") else 224
    args = {"aux_logits": False, "init_weights": False} if name in _AUXILIARY else {}
    side = 299 if name == "inception_v3" else 256 if name.startswith("swin_v2") else 224
    return f"torchvision.models:{name}", args, side


def _save_random(folder: Path, model: str, args: dict[str, Any], code: Any) -> None:
    """Write a network with random weights, also where its authors begin with zeros: their answers would all agree."""
    import torch  # noqa: PLC0415 - in the child alone

    from edgekd.models import network  # noqa: PLC0415

    torch.manual_seed(0)
    made = network.build(network.Plan(model=model, args=args), code)
    for parameter in made.module.parameters():
        if parameter.ndim > 1 and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    network.save(made, folder)


def _counts(rows: dict[str, Any]) -> dict[str, str]:
    kinds = sorted({row["kind"] for row in rows.values()})
    of_kind = {kind: [row for row in rows.values() if row["kind"] == kind] for kind in kinds}
    return {kind: f"{sum(row['passed'] for row in found)} of {len(found)}" for kind, found in of_kind.items()}


if __name__ == "__main__":
    main()
