"""Files that a guard must refuse and files that it must ship, and what each answers to images held out.

    python benchmarks/quantize/spoiled.py OUT DATA TEACHERS CACHE MODELS... [--only NAME]

DATA, TEACHERS, CACHE and MODELS are those of foreign.py. Each file is quantized well and badly, its weights are
spoiled, or its answers. Whether a variant is good (0.9 of the task is kept) or broken (below 0.7) is measured by the
task itself: detections, masks, classes, signs.
OUT/<model>/<variant>.npz hold the answers, float.npz the float file's; OUT/index.json says what each one keeps.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

sys.path.insert(0, str(Path(__file__).parent.parent))
from agreement import sqnr_db, verdict
from by_edgekd import unguarded
from by_hand import Answers, answered, by_default, prepared, quantized
from subjects import Subject, of_others
from trained import Sources, own

Array = NDArray[Any]
_DENSE = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def _weights(model: ModelProto) -> list[onnx.TensorProto]:
    """Return the weights of the layers, in the order of the graph."""
    held = {value.name: value for value in model.graph.initializer}
    names = [name for node in model.graph.node if node.op_type in _DENSE for name in node.input[:2]]
    return [held[name] for name in dict.fromkeys(names) if name in held and len(held[name].dims) > 1]


def reweighted(source: Path, out: Path, change: Callable[[Array], Array], which: slice) -> None:
    """Write the file with some of its layers' weights changed."""
    model = onnx.load(source)
    for weight in _weights(model)[which]:
        value = numpy_helper.to_array(weight)
        weight.CopyFrom(numpy_helper.from_array(change(value).astype(value.dtype), weight.name))
    onnx.save(model, out)


def rescaled(source: Path, out: Path, times: float) -> None:
    """Write a QDQ file with the steps of its activations, which are scalars of 8 bits unsigned, changed.

    Above 1 they are coarser, log2(times) bits fewer; below 1 what is large is clipped.
    """
    model = onnx.load(source)
    held = {value.name: value for value in model.graph.initializer}
    unsigned = onnx.TensorProto.UINT8
    scales = {
        node.input[1]
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and len(node.input) > 2 and held[node.input[2]].data_type == unsigned
    }
    for name in sorted(scales):
        value = numpy_helper.to_array(held[name])
        held[name].CopyFrom(numpy_helper.from_array((value * times).astype(value.dtype), name))
    onnx.save(model, out)


def _rounded(value: Array, bits: int, axes: tuple[int, ...] | None) -> Array:
    """Return values on a symmetric grid, one for each index of what `axes` leaves."""
    most = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(value).max(axis=axes, keepdims=True), 1e-12) / most
    return np.asarray(np.round(value / scale) * scale)


def _scrambled(value: Array) -> Array:
    return np.random.default_rng(0).permutation(value.reshape(-1)).reshape(value.shape)


def files(source: Path, inputs: Array, out: Path) -> Iterator[tuple[str, Path]]:
    """Make the variants that are files of a prepared float file, one after the other."""
    dense, hand, file = out / "dense.onnx", out / "hand.onnx", out / "variant.onnx"
    half = len(_weights(onnx.load(source))) // 2

    def per_channel(value: Array) -> Array:
        return _rounded(value, 8, tuple(range(1, value.ndim)))

    changes: dict[str, tuple[Callable[[Array], Array], slice]] = {
        "weights of 8 bits per channel": (per_channel, slice(None)),
        "weights of 4 bits per tensor": (lambda value: _rounded(value, 4, None), slice(None)),
        "weights of 3 bits per tensor": (lambda value: _rounded(value, 3, None), slice(None)),
        "a layer scrambled": (_scrambled, slice(half, half + 1)),
        "the last layer scrambled": (_scrambled, slice(-1, None)),
        "a layer zero": (np.zeros_like, slice(half, half + 1)),
    }
    for name, (change, which) in changes.items():
        reweighted(source, file, change, which)
        yield name, file
    quantized(source, inputs, hand)
    yield "by hand", hand
    by_default(source, inputs, file)
    yield "by default", file
    quantized(source, inputs, file, bits=16)
    yield "by hand, activations of 16 bits", file
    quantized(source, inputs, dense, kinds=_DENSE)
    yield "by hand, layers alone", dense
    for name, times in {"6 bits": 4.0, "5 bits": 8.0, "4 bits": 16.0, "clipped": 0.35}.items():
        rescaled(dense, file, times)
        yield f"by hand, layers alone, {name}", file


def _channels(value: Array) -> int:
    """Return the axis of an output's channels: the second one, but the last one of [N, anchors, C]."""
    return 2 if value.ndim == 3 and value.shape[2] < value.shape[1] else 1


def _of_channels(value: Array) -> tuple[int, ...]:
    return tuple(axis for axis in range(value.ndim) if axis != _channels(value))


def _noisy(value: Array, decibels: float) -> Array:
    power = np.sqrt((value.astype(np.float64) ** 2).mean(axis=_of_channels(value), keepdims=True))
    noise = np.random.default_rng(0).normal(0, 1, value.shape)
    return np.asarray(value + noise * power * 10 ** (-decibels / 20))


def _frozen(value: Array) -> Array:
    """Return an output whose liveliest channel says the same of every image."""
    found = value.copy()
    at: list[Any] = [slice(None)] * value.ndim
    at[_channels(value)] = int(value.std(axis=_of_channels(value)).argmax())
    found[tuple(at)] = found[tuple(at)].mean()
    return found


def answers_of(parent: Answers) -> Iterator[tuple[str, Answers]]:
    """Make the variants that are spoiled answers, one after the other."""
    changes: dict[str, Callable[[Array], Array]] = {
        "answers on one grid": lambda value: _rounded(value, 8, None),
        "answers on a grid per channel": lambda value: _rounded(value, 8, _of_channels(value)),
        "answers halved": lambda value: value * 0.5,
        "answers zero": np.zeros_like,
        "answers with noise at 30 dB": lambda value: _noisy(value, 30),
        "answers with noise at 20 dB": lambda value: _noisy(value, 20),
        "answers with noise at 10 dB": lambda value: _noisy(value, 10),
        "answers with a channel frozen": _frozen,
        "answers of the image before": lambda value: np.roll(value, 1, axis=0),
    }
    for name, change in changes.items():
        yield name, {output: change(value).astype(np.float32) for output, value in parent.items()}


def rows_of(subject: Subject, folder: Path) -> Iterator[dict[str, Any]]:
    """Write what every variant of a file answers, and yield its row of the index."""
    calibration, held_out = subject.inputs("calibration"), subject.inputs("held out")
    parent = answered(subject.file, held_out)

    def row(variant: str, found: Answers) -> dict[str, Any]:
        # Names of files may change by preparation, their order does not.
        named = dict(zip(parent, found.values(), strict=True))
        quality = subject.task.quality(parent, named)
        file = folder / subject.name / f"{variant.replace(',', '').replace(' ', '_')}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, **named)  # type: ignore[arg-type]
        return {
            "model": subject.name, "variant": variant, "verdict": verdict(quality), "quality": quality,
            "sqnr_db": sqnr_db(parent, named), "file": str(file.relative_to(folder)), "origin": subject.origin,
        }  # fmt: skip

    yield row("float", parent)
    yield from (row(*spoiled) for spoiled in answers_of(parent))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        try:
            unguarded(subject.file, calibration, work / "ours.onnx")
            yield row("edgekd without its guard", answered(work / "ours.onnx", held_out))
        except Exception as error:
            # A refusal is a row of its own in the table that this is evidence for.
            yield {"model": subject.name, "variant": "edgekd without its guard", "refused": str(error)}
        prepared(subject.file, held_out.shape[1:], work / "prepared.onnx")
        for variant, file in files(work / "prepared.onnx", calibration, work):
            yield row(variant, answered(file, held_out))


def main() -> None:
    """Write the answers of all variants of all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("teachers", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--only", action="append", default=[])
    arguments = parser.parse_args()
    index = arguments.out / "index.json"
    rows = json.loads(index.read_text(encoding="utf-8")) if index.exists() else []
    sources = Sources(arguments.data, arguments.teachers, arguments.cache)
    only = arguments.only
    for subject in [*of_others(arguments.models, arguments.data / "photos", only), *own(sources, only)]:
        rows = [row for row in rows if row["model"] != subject.name]
        for row in rows_of(subject, arguments.out):
            rows.append(row)
            print(row["model"], row["variant"], row.get("verdict"), row.get("quality"), row.get("refused"), flush=True)
            index.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
