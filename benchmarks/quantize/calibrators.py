"""What each calibrator's ranges keep, and nothing else: no repairs, weights rounded to nearest, per channel.

    python benchmarks/quantize/calibrators.py DATA RESNET20.th RESNET56.th [--images 512] [--model FILE.onnx ...]

Quantizes activations to uint8 by min-max, percentile (also 100, which must be min-max), entropy and mse over images of
train, and answers all of test: top-1, agreement with float, and the ratio of signal to noise of the logits in dB.
`--model` adds further float files for images of 32×32, normalised [N, 3, H, W] or raw pixels. Writes
benchmarks/results/quantize-calibrators.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parent.parent))
from exporting import cifar_resnet
from graphs import MEAN, STD, answers, calibration_of, read, top1
from results import write

from edgekd.quantize import qdq, settled
from edgekd.quantize.calibrate import grids_of
from edgekd.quantize.entry import Entry
from edgekd.quantize.observing import observe
from edgekd.recipe import Quantize
from edgekd.target import Int8

WAYS = {
    "min-max": Quantize(calibrator="min-max"),
    "percentile": Quantize(calibrator="percentile"),
    "percentile 100": Quantize(calibrator="percentile", percentile=100),
    "entropy": Quantize(calibrator="entropy"),
    "mse": Quantize(calibrator="mse"),
}


def rows_of(file: Path, samples: Path, pixels: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Quantize one float file by every calibrator and answer the pixels."""
    model = onnx.load(file)
    taken = model.graph.input[0]
    raw = taken.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    entry = Entry(kind="pixels", name=taken.name) if raw else None
    if entry is None:
        entry = Entry(kind="normalised", name=taken.name, mean=MEAN, std=STD, channels_first=True)
    found = settled.settled(model, entry)
    counted = {
        kind: observe(found.model, found.tensors, entry.feed(samples), kind, lambda *_: None)
        for kind in ("all", "sample")
    }
    parent = answers(file, pixels)
    rows = {"float": {"top1": top1(parent, labels)}}
    for way, config in WAYS.items():
        seen = counted["sample" if way == "mse" else "all"]
        policy = Int8()
        quantized = qdq.quantized(found.model, grids_of(seen, found, policy, config), {}, policy, frozenset())
        target = samples / "int8.onnx"
        onnx.save(quantized, target)
        logits = answers(target, pixels)
        noise = ((logits - parent) ** 2).mean() / (parent**2).mean()
        rows[way] = {
            "top1": top1(logits, labels),
            "agreement": float((logits.argmax(1) == parent.argmax(1)).mean()),
            "sqnr_db": float(-10 * np.log10(noise)),
        }
        print(file.stem, way, rows[way], flush=True)
    return rows


def main() -> None:
    """Export, quantize, answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("resnet20", type=Path)
    parser.add_argument("resnet56", type=Path)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--model", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    pixels, labels = read(arguments.data / "test")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calibration_of(arguments.data, arguments.images, folder / "samples")
        files = [folder / "resnet20.onnx", folder / "resnet56.onnx"]
        cifar_resnet(20, arguments.resnet20, files[0])
        cifar_resnet(56, arguments.resnet56, files[1])
        rows = {file.stem: rows_of(file, folder / "samples", pixels, labels) for file in [*files, *arguments.model]}
    write("quantize-calibrators", {"images": arguments.images, "rows": rows})


if __name__ == "__main__":
    main()
