"""Streaming calibration: what each tensor of a float graph takes for values, in memory that does not grow with images.

One pass finds minimum, maximum and, per convolution, the mean of every patch; a second one, where it is asked for,
counts the values of each tensor in equal bins between the two. Values are those of all images, none is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from edgekd import host, runtime
from edgekd.errors import ModelError
from edgekd.quantize import qdq
from edgekd.quantize.feed import Feed, Inputs, fixed_batch
from edgekd.quantize.wiring import Array, Geometry, Wiring, geometry, groups

BINS = 2048
_BATCH_BYTES = 48 * 2**20
"""What all observed tensors of one batch may take."""
_MOST_IMAGES = 64
_CHUNK = 2**16
"""Values counted at a time: what fits into a core's own cache, as 8 bytes each."""


@dataclass(frozen=True)
class Observed:
    """What was seen of each tensor, by its name."""

    images: int
    low: Mapping[str, float]
    high: Mapping[str, float]
    counts: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """[BINS] between low and high; empty where only the ranges were asked for."""
    patches: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """By the name of a convolution or Gemm: the mean of its input under each weight, [inputs, ...]."""

    def save(self, file: Path) -> None:
        """Write as one npz, names sorted; equal content gives equal bytes."""
        names = sorted(self.low)
        ends = np.array([[self.low[name], self.high[name]] for name in names]).reshape(-1, 2)
        arrays: dict[str, Any] = {
            "images": np.array(self.images),
            "names": np.array(names, dtype=np.str_),
            "ends": ends,
        }
        arrays |= {f"counts/{name}": self.counts[name] for name in sorted(self.counts)}
        arrays |= {f"patches/{name}": self.patches[name] for name in sorted(self.patches)}
        with file.open("wb") as stream:
            np.savez(stream, **arrays)


def load(file: Path) -> Observed:
    """Read what `save` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        names = [str(name) for name in archive["names"]]
        ends = archive["ends"]
        parts: dict[str, dict[str, Any]] = {"counts": {}, "patches": {}}
        for key in archive.files:
            kind, _, name = key.partition("/")
            if kind in parts:
                parts[kind][name] = archive[key]
        low = {name: float(end[0]) for name, end in zip(names, ends, strict=True)}
        high = {name: float(end[1]) for name, end in zip(names, ends, strict=True)}
        return Observed(int(archive["images"]), low, high, parts["counts"], parts["patches"])


def tensors_of(wiring: Wiring, float_tensors: frozenset[str]) -> list[str]:
    """Return the float tensors that quantized operators read or make and that have a grid of their own.

    What a Relu or Clip alone reads takes the grid of what it makes; what only moves values, that of its input.
    """
    found: dict[str, None] = {}
    for node in wiring.model.graph.node:
        if node.op_type not in qdq.KINDS:
            continue
        for name in (*node.input, *node.output):
            maker, reader = wiring.producer.get(name), wiring.only_reader(name)
            moved = maker is not None and maker.op_type in qdq.MOVES
            activated = reader is not None and reader.op_type in qdq.ACTIVATIONS
            if name in float_tensors and wiring.constant(name) is None and not moved and not activated:
                found[name] = None
    return list(found)


def observe(
    model: ModelProto, tensors: list[str], feed: Feed, histograms: bool, show: Callable[[int, int], None]
) -> Observed:
    """Run the feed through the graph and return what the tensors took for values.

    `show(done, total)` tells how many images went through. Raises ModelError for data that the graph does not take,
    and for values that are no finite numbers, with the tensor and the image.
    """
    session = tensor_session(model, tensors)
    batch = _batch_size(session, tensors, feed)
    rounds = 2 if histograms else 1
    ends = dict.fromkeys(tensors, (np.inf, -np.inf))
    sums = _patch_means(model, tensors)
    for start, inputs in feed.batches_for(session, batch):
        values = _values(session, tensors, inputs)
        for name, value in values.items():
            ends[name] = _widened(ends[name], name, value, start)
        for patch in sums.values():
            patch.add(values[patch.source])
        show(start + batch, rounds * feed.count)
    counts = {}
    if histograms:
        counts = {name: np.zeros(BINS, np.int64) for name in tensors}
        for start, inputs in feed.batches_for(session, batch):
            for name, value in _values(session, tensors, inputs).items():
                count_into(counts[name], value, *ends[name])
            show(feed.count + start + batch, rounds * feed.count)
    low = {name: float(end[0]) for name, end in ends.items()}
    high = {name: float(end[1]) for name, end in ends.items()}
    return Observed(feed.count, low, high, counts, {name: patch.mean() for name, patch in sums.items()})


def count_into(counts: NDArray[np.int64], values: NDArray[np.float32], low: float, high: float) -> None:
    """Add a tensor's values to equal bins between low and high, in place; the upper end belongs to the last bin."""
    width = (high - low) / len(counts)
    if width == 0:
        counts[0] += values.size
        return
    flat = values.reshape(-1)
    least, scale = np.float32(low), np.float32(1 / width)
    room = np.empty(min(_CHUNK, flat.size), np.float32)
    for start in range(0, flat.size, _CHUNK):
        chunk = flat[start : start + _CHUNK]
        # First the difference, which is never below 0: values of a narrow range far from 0 keep their bins.
        scaled = np.subtract(chunk, least, out=room[: chunk.size])
        scaled *= scale
        bins = np.minimum(scaled, np.float32(len(counts) - 1), out=scaled).astype(np.intp)
        counts += np.bincount(bins, minlength=len(counts))


def _widened(end: tuple[float, float], name: str, value: NDArray[np.float32], start: int) -> tuple[float, float]:
    low, high = float(value.min()), float(value.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        per_image = np.isfinite(value).reshape(len(value), -1).all(1)
        what = "NaN" if np.isnan(value).any() else "infinite"
        raise ModelError(
            f'the tensor "{name}" has {what} values on calibration image {start + int(np.argmin(per_image))} (from 0)',
            "look at that image and at the model's weights: int8 has no such numbers",
        )
    return min(end[0], low), max(end[1], high)


def tensor_session(model: ModelProto, tensors: list[str]) -> Any:
    """Return a session that gives the tensors themselves."""
    widened = ModelProto()
    widened.CopyFrom(model)
    given = {value.name for value in widened.graph.output}
    inputs = {value.name for value in widened.graph.input}
    for name in tensors:
        if name not in given and name not in inputs:
            widened.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return runtime.open_model(widened, runtime.Settings(threads=host.cores()))


def _values(session: Any, tensors: list[str], inputs: Inputs) -> dict[str, NDArray[np.float32]]:
    asked = [name for name in tensors if name not in inputs]
    made = dict(zip(asked, runtime.answer(session, asked, inputs), strict=True))
    return {name: inputs[name] if name in inputs else made[name] for name in tensors}


def _batch_size(session: Any, tensors: list[str], feed: Feed) -> int:
    """Return how many images may go through at once, by what one of them takes."""
    if fixed_batch(session) is not None:
        return 1  # then it does not matter
    one = sum(value.nbytes for value in _values(session, tensors, feed.take(0, 1)).values())
    return max(1, min(_MOST_IMAGES, _BATCH_BYTES // max(1, one)))


def _patch_means(model: ModelProto, tensors: list[str]) -> dict[str, _PatchMean]:
    wiring, found = Wiring(model), {}
    for node in model.graph.node:
        weight = wiring.weight(node)
        if weight is not None and node.input[0] in tensors:
            found[node.name] = _PatchMean(node, weight)
    return found


class _PatchMean:
    """The mean over images and positions of what lies under each weight of one layer."""

    def __init__(self, node: NodeProto, weight: Array) -> None:
        self.source = node.input[0]
        self._shape = geometry(node, weight) if node.op_type == "Conv" else None
        self._sum: NDArray[np.float64] | None = None
        self._images = 0

    def add(self, value: NDArray[np.float32]) -> None:
        """Add a batch of the layer's input."""
        # A batch is few enough for float32; batches add up in float64.
        total = value.sum(0).astype(np.float64)
        self._sum = total if self._sum is None else self._sum + total
        self._images += len(value)

    def mean(self) -> NDArray[np.float64]:
        """Return [inputs, kernel height, kernel width] of a convolution, [inputs] of a Gemm."""
        assert self._sum is not None, "a feed holds at least one image"
        mean = self._sum / self._images
        return mean if self._shape is None else under_taps(mean, self._shape)


def under_taps(mean: NDArray[np.float64], shape: Geometry) -> NDArray[np.float64]:
    """Return the mean over output positions of what lies under each tap: [C, H, W] -> [C, kernel height, width].

    Zero where a tap lies in the padding.
    """
    padded = shape.padded(mean)
    positions = shape.positions(padded.shape)
    taps = np.empty((len(mean), *shape.kernel))
    for tap in np.ndindex(*shape.kernel):
        window = tuple(
            slice(at * step, at * step + stride * (count - 1) + 1, stride)
            for at, step, stride, count in zip(tap, shape.dilations, shape.strides, positions, strict=True)
        )
        taps[(slice(None), *tap)] = padded[(slice(None), *window)].mean(tuple(range(1, mean.ndim)))
    return taps


def per_input(patch: NDArray[np.float64], node: NodeProto, outputs: int) -> NDArray[np.float64]:
    """Return a layer's mean patch as its weight is laid out, [outputs, inputs of a group, ...]."""
    parts = np.stack(np.split(patch, groups(node)))
    return np.repeat(parts, outputs // groups(node), axis=0)
