"""A network made hard for int8 without a change of what it computes: channels up to 100 times apart.

    python benchmarks/quantize/hard.py DATA RESNET20.th

Of each block of ResNet-20, output i of the first convolution is multiplied by s_i and input i of the second divided by
it, s_i from 0.1 to 10; a ReLU between them does not mind. Writes benchmarks/results/quantize-hard.json.
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
from graphs import NORMALISED, answers, calibration_of, plain, quantize, read, top1
from results import write

from edgekd.quantize.equalisation import pairs
from edgekd.quantize.wiring import Wiring, bias_of, give_bias, settle


def harden(model: onnx.ModelProto) -> int:
    """Scale the channels of all pairs apart, in place; return how many pairs."""
    settle(model)
    wiring = Wiring(model)
    generator = np.random.default_rng(0)
    found = pairs(wiring)
    for pair in found:
        first, second = wiring.weight(pair.first), wiring.weight(pair.second)
        if first is None or second is None:
            continue
        scale = generator.permutation(np.logspace(-1, 1, len(first)))
        wiring.set(pair.first.input[1], first * scale.reshape(-1, 1, 1, 1))
        give_bias(wiring, pair.first, bias_of(wiring, pair.first) * scale)
        wiring.set(pair.second.input[1], second / scale.reshape(1, -1, *[1] * (second.ndim - 2)))
    return len(found)


def main() -> None:
    """Harden, quantize by both, answer test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    arguments = parser.parse_args()
    pixels, labels = read(arguments.data / "test")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cifar_resnet(20, arguments.weights, folder / "easy.onnx")
        model = onnx.load(folder / "easy.onnx")
        count = harden(model)
        onnx.save(model, folder / "hard.onnx")
        easy, hard = (answers(folder / file, pixels) for file in ("easy.onnx", "hard.onnx"))
        calibration = calibration_of(arguments.data, 512, folder / "few")
        rows: dict[str, float] = {"float": top1(hard, labels)}
        for kind, per_channel in (("per channel", True), ("per tensor", False)):
            plain(folder / "hard.onnx", calibration, folder / "plain.onnx", per_channel=per_channel)
            rows[f"onnxruntime, {kind}"] = top1(answers(folder / "plain.onnx", pixels), labels)
            options = [*NORMALISED, "--absorb", "--set", f"quantize.per_channel={str(per_channel).lower()}"]
            file, report, _ = quantize(
                folder / "hard.onnx", arguments.data / "train", "cpu-vnni", folder / kind, *options
            )
            rows[f"ours, {kind}"] = top1(answers(file, pixels), labels)
            repairs = report["quantization"]["repairs"] + report["quantization"]["rounding"]
            print(kind, report["precision"], repairs, report["quantization"]["repairs_sqnr"], flush=True)
    changed = float(np.abs(hard - easy).max() / np.abs(easy).max())
    write("quantize-hard", {"pairs_scaled": count, "float_changed_by": changed, "top1": rows})


if __name__ == "__main__":
    main()
