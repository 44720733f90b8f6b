"""Time and memory of ranges from histograms: ours against onnxruntime's, each as a process of its own, in turns.

    python benchmarks/quantize/calibration.py DATA RESNET56.th [--images 2048] [--rounds 2]

Entropy and percentile ranges of ResNet-56 at 32×32. The forward passes alone, with all tensors given out, are the
floor. Writes benchmarks/results/quantize-calibration.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, create_calibrator

sys.path.insert(0, str(Path(__file__).parent.parent))
from graphs import MEAN, STD, Reader, calibration_of, in_turns
from results import write

from edgekd.quantize import observing, qdq, settled
from edgekd.quantize.calibrate import COUNTED, grids_of
from edgekd.quantize.entry import Entry
from edgekd.recipe import Quantize
from edgekd.target import Int8

METHODS = {"entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}
WAYS = ("ours entropy", "ours percentile", "ours mse", "onnxruntime entropy", "onnxruntime percentile", "forward")


def one(way: str, model: Path, samples: Path) -> None:
    """Do one way and nothing else."""
    who, _, method = way.partition(" ")
    if who == "onnxruntime":
        calibrator = create_calibrator(
            str(model), sorted(qdq.KINDS), str(model.with_name("augmented.onnx")), METHODS[method]
        )
        calibrator.collect_data(Reader(onnx.load(model).graph.input[0].name, np.load(samples / "images.npy")))
        calibrator.compute_data()
        return
    graph = onnx.load(model)
    entry = Entry(kind="normalised", name=graph.graph.input[0].name, mean=MEAN, std=STD, channels_first=True)
    found = settled.settled(graph, entry)
    feed = entry.feed(samples)
    if who == "forward":
        session = observing.tensor_session(found.model, found.tensors)
        for _, inputs in feed.batches(32):
            session.run(None, inputs)
        return
    seen = observing.observe(found.model, found.tensors, feed, COUNTED[method], lambda *_: None)
    grids_of(seen, found, Int8(), Quantize(calibrator=method))


def main() -> None:
    """Run every way in a process of its own, in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one, arguments.weights, arguments.data)
        return
    from exporting import cifar_resnet  # noqa: PLC0415 - torch, of which the measured processes know nothing

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calibration_of(arguments.data, arguments.images, folder / "samples")
        cifar_resnet(56, arguments.weights, folder / "model.onnx")
        given = (str(folder / "samples"), str(folder / "model.onnx"))
        done = in_turns(__file__, WAYS, arguments.rounds, *given)
    times = {way: [each.seconds for each in found] for way, found in done.items()}
    seconds = {way: statistics.median(found) for way, found in times.items()}
    peak = {way: max(each.peak_mb for each in found) for way, found in done.items()}
    write(
        "quantize-calibration",
        {
            "images": arguments.images,
            "seconds": {way: [round(each, 2) for each in found] for way, found in times.items()},
            "peak_mb": {way: round(found, 1) for way, found in peak.items()},
            "times_faster": {kind: seconds[f"onnxruntime {kind}"] / seconds[f"ours {kind}"] for kind in METHODS},
            "times_less_memory": {kind: peak[f"onnxruntime {kind}"] / peak[f"ours {kind}"] for kind in METHODS},
            "times_the_floor": {way: seconds[way] / seconds["forward"] for way in WAYS if way.startswith("ours")},
        },
    )


if __name__ == "__main__":
    main()
