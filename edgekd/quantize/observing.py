"""Streaming calibration: what each tensor of a float graph takes for values, in memory that does not grow with images.

One pass finds minimum, maximum and, per convolution, the mean of every patch, and where it is asked for counts the
values of each tensor in equal bins: all of them, or a sample that holds the rare large ones.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper

from edgekd import host, runtime
from edgekd.errors import ModelError
from edgekd.quantize import qdq
from edgekd.quantize.feed import Feed, Inputs
from edgekd.quantize.histogram import Counts, Histogram
from edgekd.quantize.patches import patch_means
from edgekd.quantize.sampling import count_sample
from edgekd.quantize.sizes import bytes_of, parts_of
from edgekd.quantize.wiring import Wiring, copied

_BATCH_BYTES = 48 * 2**20
"""What all observed tensors of one batch may take."""
_PART_BYTES = 128 * 2**20
"""What the tensors that are observed at once may take where one image has more; two images are held at a time."""
_LARGE_INPUT = 2**20
"""Inputs of fewer bytes make tensors that fit into memory together."""
_MOST_IMAGES = 64
Counting = Literal["none", "sample", "all"]
"""Which values histograms hold. A sample does for squared errors, not for the few values that percentiles end at."""


@dataclass(frozen=True)
class Observed:
    """What was seen of each tensor, by its name."""

    images: int
    low: Mapping[str, float]
    high: Mapping[str, float]
    counts: Mapping[str, Counts] = field(default_factory=dict)
    """Empty where only the ranges were asked for."""
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
        for name in sorted(self.counts):
            found = self.counts[name]
            arrays |= {f"counts/{name}": found.counts, f"edges/{name}": np.array([found.low, found.high])}
        arrays |= {f"patches/{name}": self.patches[name] for name in sorted(self.patches)}
        with file.open("wb") as stream:
            np.savez(stream, **arrays)


def load(file: Path) -> Observed:
    """Read what `save` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        names = [str(name) for name in archive["names"]]
        ends = archive["ends"]
        parts: dict[str, dict[str, Any]] = {"counts": {}, "edges": {}, "patches": {}}
        for key in archive.files:
            kind, _, name = key.partition("/")
            if kind in parts:
                parts[kind][name] = archive[key]
        low = {name: float(end[0]) for name, end in zip(names, ends, strict=True)}
        high = {name: float(end[1]) for name, end in zip(names, ends, strict=True)}
        edges = parts["edges"]
        counts = {name: Counts(found, *map(float, edges[name])) for name, found in parts["counts"].items()}
        return Observed(int(archive["images"]), low, high, counts, parts["patches"])


def tensors_of(wiring: Wiring, in_float: Container[str] = ()) -> list[str]:
    """Return the float tensors that quantized operators read or make and that have a grid of their own.

    What a Relu or Clip alone reads takes the grid of what it makes; what only moves values, that of its input. The
    nodes of `in_float` are not quantized.
    """

    def quantized(node: NodeProto | None, kinds: Container[str]) -> bool:
        return node is not None and node.op_type in kinds and node.name not in in_float

    found: dict[str, None] = {}
    for node in wiring.model.graph.node:
        if not quantized(node, qdq.KINDS):
            continue
        for name in (*node.input, *node.output):
            moved = quantized(wiring.producer.get(name), qdq.MOVES)
            activated = quantized(wiring.only_reader(name), qdq.ACTIVATIONS)
            if name in wiring.floats and wiring.constant(name) is None and not moved and not activated:
                found[name] = None
    return list(found)


def observe(
    model: ModelProto, tensors: list[str], feed: Feed, counting: Counting, show: Callable[[int, int], None]
) -> Observed:
    """Run the feed through the graph and return what the tensors took for values.

    Once, unless the tensors of one large image do not fit into memory together: then a part of them at a time.
    `show(done, total)` tells how many images went through. Raises ModelError for data that the graph does not take,
    and for values that are no finite numbers, with the tensor and the image.
    """
    parts = _parts(model, tensors, feed)
    seen = []
    for number, part in enumerate(parts):

        def show_part(done: int, total: int, number: int = number) -> None:
            show(number * total + done, len(parts) * total)

        seen.append(_observe(model, part, feed, counting, show_part))
    first, *others = seen
    for other in others:
        merged = {key: {**getattr(first, key), **getattr(other, key)} for key in ("low", "high", "counts", "patches")}
        first = Observed(first.images, **merged)
    return first


def _parts(model: ModelProto, tensors: list[str], feed: Feed) -> list[list[str]]:
    one = _largest(feed)
    if not tensors or sum(value.nbytes for value in one.values()) < _LARGE_INPUT:
        return [tensors]
    return parts_of(bytes_of(model, tensors, one), _PART_BYTES)


def _observe(
    model: ModelProto, tensors: list[str], feed: Feed, counting: Counting, show: Callable[[int, int], None]
) -> Observed:
    # Counting all takes a core of its own: with all of them onnxruntime's threads would only wait for each other.
    session = tensor_session(model, tensors, max(1, host.cores() - 1) if counting == "all" else host.cores())
    ends = dict.fromkeys(tensors, (np.inf, -np.inf))
    sums = patch_means(model, tensors)
    counted = {name: Histogram() for name in tensors} if counting != "none" else {}
    images = 0

    def look(start: int, stop: int, values: Mapping[str, NDArray[np.float32]]) -> None:
        for name, value in values.items():
            if not value.size:
                continue
            low, high = _ends(name, value, start)
            ends[name] = min(ends[name][0], low), max(ends[name][1], high)
            if counting == "all":
                counted[name].add(value, low, high)
            elif counting == "sample":
                total = value.size * feed.count // (stop - start)
                count_sample(counted[name], value, ends[name], start, total)
        for patch in sums.values():
            patch.add(values[patch.source])

    for start, stop, values in _ahead(session, tensors, feed):
        look(start, stop, values)
        images = stop
        show(images, feed.count)
    ends = {name: end if end[0] <= end[1] else (0.0, 0.0) for name, end in ends.items()}
    least, most = ({name: float(end[at]) for name, end in ends.items()} for at in (0, 1))
    counts = {name: histogram.counts() for name, histogram in counted.items()}
    return Observed(images, least, most, counts, {name: patch.mean() for name, patch in sums.items()})


_Batch = tuple[int, int, dict[str, NDArray[np.float32]]]
"""The first image, the one past the last, and the tensors by name."""


def _ahead(session: Any, tensors: list[str], feed: Feed) -> Iterator[_Batch]:
    """Yield every batch; the next one runs while the last one is looked at."""
    batches = feed.batches_for(session, _batch_size(session, tensors, feed))

    def run() -> _Batch | None:
        found = next(batches, None)
        if found is None:
            return None
        start, inputs = found
        return start, start + feed.size_of(inputs), values_of(session, tensors, inputs)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(run)
        before: dict[str, NDArray[np.float32]] = {}
        while (found := waiting.result()) is not None:
            # Two batches are held at all times: a third would be one too many, and were the last one let go as soon
            # as it is looked at, how far onnxruntime's arena grows would hang on the threads' timing.
            before.clear()
            before = found[2]
            waiting = pool.submit(run)
            yield found


def _ends(name: str, value: NDArray[np.float32], start: int) -> tuple[float, float]:
    low, high = float(value.min()), float(value.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = np.atleast_1d(np.isfinite(value))
        per_image = finite.reshape(len(finite), -1).all(1)
        what = "NaN" if np.isnan(value).any() else "infinite"
        raise ModelError(
            f'the tensor "{name}" has {what} values on calibration image {start + int(np.argmin(per_image))} (from 0)',
            "look at that image and at the model's weights: int8 has no such numbers",
        )
    return low, high


def tensor_session(model: ModelProto, tensors: list[str], threads: int = 0) -> Any:
    """Return a session that gives the tensors themselves, on so many threads; 0: all cores."""
    widened = copied(model)
    given = {value.name for value in widened.graph.output}
    inputs = {value.name for value in widened.graph.input}
    for name in tensors:
        if name not in given and name not in inputs:
            widened.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return runtime.open_model(widened, runtime.Settings(threads=threads or host.cores()))


def values_of(session: Any, tensors: list[str], inputs: Inputs) -> dict[str, NDArray[np.float32]]:
    """Return the tensors for one batch, by a session of `tensor_session`; those that are inputs are the batch's own."""
    asked = [name for name in tensors if name not in inputs]
    made = dict(zip(asked, runtime.answer(session, asked, inputs), strict=True))
    return {name: inputs[name] if name in inputs else made[name] for name in tensors}


def _batch_size(session: Any, tensors: list[str], feed: Feed) -> int:
    """Return how many images may go through at once, by what one of them takes."""
    if feed.fixed_by(session) is not None:
        return 1  # then it does not matter
    one = sum(value.nbytes for value in values_of(session, tensors, _largest(feed)).values())
    return max(1, min(_MOST_IMAGES, _BATCH_BYTES // max(1, one)))


def _largest(feed: Feed) -> Inputs:
    """Return one sample of the largest shape."""
    first_of_each = [feed.take(start, start + 1) for start in feed.ends[:-1]]
    return max(first_of_each, key=lambda inputs: sum(value.nbytes for value in inputs.values()))
