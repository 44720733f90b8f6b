"""Memory of calibration at 224×224 must not grow with the images: MobileNetV2, 64 and 512 of them, three calibrators.

    python benchmarks/quantize/memory.py [--rounds 5]

Random weights and random images: neither changes what is held. Each measurement is a process of its own, five times:
peaks fall on two levels some 30 MB apart, at either number of images, so the largest ones are compared. "Above the
model" is the largest peak over that of a process that only opens the session. Writes
benchmarks/results/quantize-memory.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).parent.parent))
from graphs import MEAN, STD, run
from results import write

from edgekd.quantize import observing, settled
from edgekd.quantize.calibrate import COUNTED, grids_of
from edgekd.quantize.entry import Entry
from edgekd.recipe import Quantize
from edgekd.target import Int8

SIDE = 224
COUNTS = (64, 512)
CALIBRATORS = ("percentile", "entropy", "mse")


def one(calibrator: str, model: Path, samples: Path) -> None:
    """Observe and find the ranges, or with no calibrator only open the session."""
    graph = onnx.load(model)
    entry = Entry(kind="normalised", name=graph.graph.input[0].name, mean=MEAN, std=STD, channels_first=True)
    found = settled.settled(graph, entry)
    if calibrator == "none":
        observing.tensor_session(found.model, found.tensors)
        return
    seen = observing.observe(found.model, found.tensors, entry.feed(samples), COUNTED[calibrator], lambda *_: None)
    grids_of(seen, found, Int8(), Quantize(calibrator=calibrator))


def main() -> None:
    """Measure each calibrator with few and many images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one[0], Path(arguments.one[1]), Path(arguments.one[2]))
        return
    import torch  # noqa: PLC0415 - of which the measured processes know nothing
    import torchvision  # noqa: PLC0415
    from exporting import export  # noqa: PLC0415

    rows: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.manual_seed(0)
        export(torchvision.models.mobilenet_v2(), SIDE, folder / "model.onnx")
        generator = np.random.default_rng(0)
        for count in COUNTS:
            (folder / str(count)).mkdir()
            pixels = generator.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
            np.save(folder / str(count) / "images.npy", pixels)

        def peaks(calibrator: str, count: int) -> tuple[list[float], float]:
            given = (calibrator, str(folder / "model.onnx"), str(folder / str(count)))
            rounds = [run(sys.executable, __file__, "--one", *given) for _ in range(arguments.rounds)]
            return [round(done.peak_mb, 1) for done in rounds], min(done.seconds for done in rounds)

        empty = max(peaks("none", COUNTS[0])[0])
        for calibrator in CALIBRATORS:
            (few, _), (many, seconds) = (peaks(calibrator, count) for count in COUNTS)
            rows[calibrator] = {
                "above_the_model_mb": round(max(*few, *many) - empty, 1),
                "peaks_mb_of_64": few,
                "peaks_mb_of_512": many,
                "many_against_few": max(many) / max(few),
                "seconds_of_512": round(seconds, 1),
            }
            print(calibrator, rows[calibrator], flush=True)
    write("quantize-memory", {"session_alone_mb": empty, "calibrators": rows})


if __name__ == "__main__":
    main()
