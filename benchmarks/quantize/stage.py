"""The whole stage as a process: ResNet-56, 512 images, `auto`, against plain onnxruntime.

    python benchmarks/quantize/stage.py DATA RESNET56.th [--rounds 5]

In turns: ours, everything on `auto` (repair, calibrate, quantize); onnxruntime's quantizer with its pre-processing,
min-max, no repairs; and that without its pre-processing. All read the same 512 images as arrays. Writes
benchmarks/results/quantize-stage.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import write

WAYS = ("ours, the stage", "onnxruntime", "onnxruntime, no pre-processing")


def one(way: str, model: Path, samples: Path) -> None:
    """Do one way and import nothing else."""
    if way == "ours, the stage":
        from edgekd.quantize.entry import Entry  # noqa: PLC0415
        from edgekd.quantizing import Quantizer  # noqa: PLC0415
        from edgekd.recipe import Quantize  # noqa: PLC0415
        from edgekd.store import Store  # noqa: PLC0415
        from edgekd.target import Int8  # noqa: PLC0415

        entry = Entry(kind="normalised", name="x", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375),
                      channels_first=True)  # fmt: skip
        with tempfile.TemporaryDirectory() as name:
            Quantizer(Store(Path(name)), model, samples, Int8(), Quantize(), entry).first()
        return
    import numpy as np  # noqa: PLC0415
    from onnxruntime.quantization import (  # noqa: PLC0415
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    pixels = np.load(samples / "images.npy")
    mean, std = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        """32 images at a time."""

        start = 0

        def get_next(self) -> object:
            """Return the next batch, or None."""
            batch = pixels[self.start : self.start + 32]
            self.start += 32
            values = np.ascontiguousarray(((batch.astype(np.float32) - mean) / std).transpose(0, 3, 1, 2))
            return {"x": values} if len(batch) else None

    with tempfile.TemporaryDirectory() as name:
        source = model
        if way == "onnxruntime":
            source = Path(name) / "prepared.onnx"
            quant_pre_process(str(model), str(source))
        quantize_static(
            str(source), str(Path(name) / "int8.onnx"), Batches(), quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
        )  # fmt: skip


def main() -> None:
    """Run every way in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one, arguments.weights, arguments.data)
        return
    import onnx  # noqa: PLC0415
    from exporting import cifar_resnet  # noqa: PLC0415
    from graphs import calibration_of, in_turns  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calibration_of(arguments.data, 512, folder / "samples")
        cifar_resnet(56, arguments.weights, folder / "exported.onnx")
        model = onnx.load(folder / "exported.onnx")
        for node in model.graph.node:
            node.input[:] = ["x" if each == model.graph.input[0].name else each for each in node.input]
        model.graph.input[0].name = "x"
        onnx.save(model, folder / "model.onnx")
        given = (str(folder / "samples"), str(folder / "model.onnx"))
        done = in_turns(__file__, WAYS, arguments.rounds, *given)
    seconds = {way: [each.seconds for each in found] for way, found in done.items()}
    ours = statistics.median(seconds[WAYS[0]])
    write(
        "quantize-stage",
        {
            "seconds": {way: [round(each, 2) for each in found] for way, found in seconds.items()},
            "median_seconds": {way: statistics.median(found) for way, found in seconds.items()},
            "peak_mb": {way: round(max(each.peak_mb for each in found), 1) for way, found in done.items()},
            "onnxruntime_takes_times": {way: statistics.median(seconds[way]) / ours for way in WAYS[1:]},
        },
    )


if __name__ == "__main__":
    main()
