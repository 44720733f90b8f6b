"""ResNet-56 on CIFAR-10 from its published weights: what int8 keeps, how fast it is, and how small ResNet-20 gets.

    python benchmarks/quantize/resnet56.py DATA RESNET56.th RESNET20.th

Exports both as a user does, runs `edgekd quantize` (512 images of train) with 8- and 7-bit weights and onnxruntime's
own quantizer beside it, answers all of test, and times float and int8 in one interleaved run on one thread. Writes
benchmarks/results/quantize-resnet56.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from building import compare
from exporting import cifar_resnet
from graphs import NORMALISED, answers, calibration_of, plain, quantize, read, top1
from results import write

_WAYS = {
    "cpu-vnni": ("cpu-vnni", ["--absorb"]),
    "cpu-vnni, normalised images": ("cpu-vnni", []),
    "cpu-vnni, min-max": ("cpu-vnni", ["--absorb", "--calibrator", "min-max"]),
    "cpu": ("cpu", ["--absorb"]),
    "cpu, normalised images": ("cpu", []),
    "cpu, learned rounding": ("cpu", ["--absorb", "--set", "quantize.rounding=optq"]),
}
"""Target and options. Pixels fold the normalisation in, but for the zeros around the border."""


def main() -> None:
    """Quantize, answer, time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("resnet56", type=Path)
    parser.add_argument("resnet20", type=Path)
    arguments = parser.parse_args()
    pixels, labels = read(arguments.data / "test")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calibration = calibration_of(arguments.data, 512, folder / "few")
        models = {56: folder / "resnet56.onnx", 20: folder / "resnet20.onnx"}
        cifar_resnet(56, arguments.resnet56, models[56])
        cifar_resnet(20, arguments.resnet20, models[20])
        parent = answers(models[56], pixels)
        rows: dict[str, object] = {"float top1": top1(parent, labels)}
        for way, (target, options) in _WAYS.items():
            given = (models[56], arguments.data / "train", target, folder / way, *NORMALISED, *options)
            file, report, _ = quantize(*given)
            logits = answers(file, pixels)
            plain(models[56], calibration, folder / "plain.onnx", seven_bits=target == "cpu")
            theirs = answers(folder / "plain.onnx", pixels)
            rows[way] = {
                "top1": top1(logits, labels),
                "agreement": float((logits.argmax(1) == parent.argmax(1)).mean()),
                "latency": compare(file, models[56], target),
                "kilobytes": file.stat().st_size / 1000,
                "repairs": report["quantization"]["repairs"] + report["quantization"]["rounding"],
                "onnxruntime alone": {
                    "top1": top1(theirs, labels),
                    "agreement": float((theirs.argmax(1) == parent.argmax(1)).mean()),
                },
            }
        file, _, _ = quantize(
            models[20], arguments.data / "train", "cpu-vnni", folder / "small", *NORMALISED, "--absorb"
        )
        plain(models[20], calibration, folder / "plain20.onnx")
        rows["resnet20"] = {
            "kilobytes": file.stat().st_size / 1000,
            "kilobytes by onnxruntime's writer": (folder / "plain20.onnx").stat().st_size / 1000,
            "kilobytes in float": models[20].stat().st_size / 1000,
            "top1": top1(answers(file, pixels), labels),
            "times as fast as by onnxruntime's writer": compare(file, folder / "plain20.onnx", "cpu-vnni")["times"],
        }
    write("quantize-resnet56", rows)


if __name__ == "__main__":
    main()
