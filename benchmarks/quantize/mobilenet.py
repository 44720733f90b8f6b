"""MobileNetV2 on CIFAR-10: what plain min-max per tensor loses, and what is left of the loss after the repairs.

    python benchmarks/quantize/mobilenet.py DATA RESNET56.th [--store DIR] [--out DIR]

Builds benchmarks/cifar10/mobilenet.toml (about two hours on 2 cores the first time), takes its float graph, and
quantizes it by onnxruntime alone and by `edgekd quantize`, without any fine-tuning. Writes
benchmarks/results/quantize-mobilenet.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from building import build, compare
from graphs import answers, calibration_of, plain, quantize, read, top1
from results import write

_RECIPE = Path(__file__).parent.parent / "cifar10" / "mobilenet.toml"


def main() -> None:
    """Build, quantize by both, answer test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--store", type=Path, default=Path(".edgekd"))
    parser.add_argument("--out", type=Path, default=Path("dist"))
    arguments = parser.parse_args()
    settings = [f"data.path={arguments.data.absolute()}", f"teacher.weights={arguments.weights.absolute()}"]
    target = "cpu-vnni"
    in_float = build(_RECIPE, [*settings, "quantize.precision=float"], arguments.store, arguments.out, target)
    pixels, labels = read(arguments.data / "test")
    rows: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "mobilenet.onnx"
        model.write_bytes((in_float.folder / "model.onnx").read_bytes())
        parent = answers(model, pixels)
        calibration = calibration_of(arguments.data, 512, folder / "few")

        def row(file: Path) -> dict[str, float]:
            found = answers(file, pixels)
            agreed = float((found.argmax(1) == parent.argmax(1)).mean())
            return {"top1": top1(found, labels), "agreement": agreed, "kilobytes": file.stat().st_size / 1000}

        rows["float"] = row(model)
        for kind, per_channel in (("per tensor", False), ("per channel", True)):
            plain(model, calibration, folder / "plain.onnx", per_channel=per_channel)
            rows[f"onnxruntime, {kind}"] = row(folder / "plain.onnx")
        for way, options in {
            "ours": [],
            "ours, per tensor": ["--set", "quantize.per_channel=false"],
            "ours, learned rounding": ["--set", "quantize.rounding=optq"],
            "ours, 7-bit weights": ["--set", "quantize.reduce_range=true"],
            "ours, min-max": ["--calibrator", "min-max"],
            "ours, percentile": ["--calibrator", "percentile"],
            "ours, entropy": ["--calibrator", "entropy"],
        }.items():
            file, report, _ = quantize(model, arguments.data / "train", target, folder / way, *options)
            made = report["quantization"]
            rows[way] = {**row(file), "repairs": made["repairs"] + made["rounding"], "precision": report["precision"]}
            print(way, rows[way], flush=True)
        latency = compare(folder / "ours" / f"mobilenet-{target}" / "model.onnx", model, target)
    write("quantize-mobilenet", {"rows": rows, "latency": latency})


if __name__ == "__main__":
    main()
