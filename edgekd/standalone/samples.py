"""The samples that `edgekd quantize` calibrates on, those it judges by, and what a file answers to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgekd import host as hosts
from edgekd import runtime
from edgekd.errors import DataError
from edgekd.quantize.entry import Entry, labels_of
from edgekd.quantize.feed import Inputs
from edgekd.quantize.joining import answered, batch_axes, joined
from edgekd.run import Run
from edgekd.runtime import exact_here
from edgekd.stage import Artifact
from edgekd.standalone import judging
from edgekd.standalone.asked import Request
from edgekd.standalone.fed import Fed, FedArrays
from edgekd.target import Target
from edgekd.workload import gather, images, npz
from edgekd.workload.splits import Indices, stratified

CALIBRATION = "calibration"
JUDGED = "judged"
CALIBRATED, _APART = "the calibration samples", "samples that did not calibrate"
"""What judges, as the report has it."""
_MOST_JUDGED = 2000
_MOST_BYTES = 256 * 2**20
_BATCH = 50
_HELD_OUT = 4
"""One sample in this many judges, where all of them were asked for to calibrate on."""


@dataclass(frozen=True)
class Split:
    """Which samples calibrate, and which judge."""

    calibration: Indices
    judged: Indices

    @property
    def is_apart(self) -> bool:
        """Whether no sample does both."""
        return not np.intersect1d(self.calibration, self.judged).size


@dataclass(frozen=True)
class Collected:
    """What was written: CALIBRATION and JUDGED."""

    has_labels: bool
    report: dict[str, Any]
    """What the report keeps: how many samples calibrate, whether others judge, and which files are not images."""


def split(labels: NDArray[np.int64], asked: int, least: int, seed: int) -> Split:
    """Draw samples to calibrate on, stratified by label and by seed; what is left judges, at most 2,000.

    Where all that there are were asked for, a quarter judges and does not calibrate; where that, or what is left, is
    less than `least`, the calibration samples judge. 0 asked: nothing calibrates. Raises DataError.
    """
    total = len(labels)
    if not total:
        raise DataError("the files hold no sample", "each input needs at least one along its batch axis")
    if asked > total:
        apart = max(1, total - max(1, total // _HELD_OUT))
        raise DataError(
            f"{asked} calibration samples are asked for, the folder holds {total}",
            f"--samples {apart} leaves some to judge by; or more samples",
        )
    count = asked if asked < total else total - max(1, total // _HELD_OUT)
    chosen = stratified(labels, count, seed)
    rest = np.setdiff1d(np.arange(total), chosen)
    if asked and (len(chosen) < min(least, asked) or len(rest) < least):
        chosen = stratified(labels, asked, seed)
        return Split(chosen, chosen)
    return Split(chosen, rest[stratified(labels[rest], min(_MOST_JUDGED, len(rest)), seed)])


def collect(request: Request, model: ModelProto, fed: Fed, folder: Path, run: Run) -> Collected:
    """Write the calibration samples, and others to judge by where there are any. Raises DataError."""
    config = request.settings.quantize
    asked = config.samples if request.target.precision_under(config) == "int8" else 0
    if isinstance(fed, FedArrays):
        found = npz.find(request.data, fed.wanted)
        drawn = split(found.labels, asked, fed.batch or 1, request.seed)
        _write(drawn, folder, lambda chosen, out: npz.write(found, chosen, out))
        return Collected(False, _report(drawn))
    if fed.normalised != "not by this command":
        mean, std = (", ".join(f"{each:g}" for each in values) for values in (fed.mean, fed.std))
        run.say(f"pixels are fed as (pixel - mean) / std, mean {mean}, std {std}")
    pictures = gather.pictures(request.data)
    if pictures.not_images:
        run.say(images.not_images(pictures.not_images))
    if 0 < asked < len(fed.sizes):
        raise DataError(f"--samples {asked} is less than one for each of {len(fed.sizes)} sizes", "ask for more")
    labels = pictures.labels if pictures.labels is not None else np.zeros(len(pictures.files), np.int64)
    drawn = split(labels, asked, max(fed.batch or 1, len(fed.sizes)), request.seed)

    def write(chosen: Indices, out: Path) -> None:
        gather.write_pictures(pictures.take(chosen), fed.sizes, out, run, fed.framing)

    _write(drawn, folder, write)
    has_labels = pictures.labels is not None and _classes(model) == len(pictures.classes)
    return Collected(has_labels, {**_report(drawn), "files": {"not_images": list(pictures.not_images)}})


def _write(drawn: Split, folder: Path, write: Callable[[Indices, Path], None]) -> None:
    """Write each part; what holds the same samples as another one, or nothing, is a link to it."""
    if not len(drawn.calibration):
        write(drawn.judged, folder / JUDGED)
        (folder / CALIBRATION).symlink_to(folder / JUDGED, target_is_directory=True)
        return
    write(drawn.calibration, folder / CALIBRATION)
    if drawn.is_apart:
        write(drawn.judged, folder / JUDGED)
    else:
        (folder / JUDGED).symlink_to(folder / CALIBRATION, target_is_directory=True)


def _report(drawn: Split) -> dict[str, Any]:
    return {"samples_calibrated": len(drawn.calibration), "judged_on": _APART if drawn.is_apart else CALIBRATED}


def _classes(model: ModelProto) -> int:
    """Return how many classes the one output scores; 0 where it is no such output."""
    outputs = model.graph.output
    dims = outputs[0].type.tensor_type.shape.dim
    return dims[1].dim_value if len(outputs) == 1 and len(dims) == 2 else 0


@dataclass(frozen=True)
class Evaluator:
    """An ONNX file on the samples that it is judged by, once each: the float graph takes what its entry says."""

    target: Target
    fed: Entry | None
    folder: Path
    has_labels: bool

    def __call__(self, file: Path) -> Artifact:
        """Return all outputs as an npz, how many samples were answered, and top-1 of the first output where there are
        labels, else 0.
        """
        found = self.folder / f"{file.parent.parent.name}-{file.stem}.npz"
        picked = found.with_suffix(".npy")
        if not found.exists():
            answers, indices = self._answers(file)
            judging.write(answers, found)
            np.save(picked, indices)
        indices = np.load(picked)
        labels = labels_of(self.folder / JUDGED) if self.has_labels else None
        if labels is None:
            return Artifact("evaluate", found, {"top1": 0.0, "samples": len(indices)})
        scores = next(iter(judging.read(found).values()))
        right = float((scores.reshape(len(scores), -1).argmax(1) == labels[indices]).mean())
        return Artifact("evaluate", found, {"top1": right, "samples": len(indices)})

    def _answers(self, file: Path) -> tuple[dict[str, NDArray[Any]], Indices]:
        """Return all outputs, and the samples that they answer."""
        session = runtime.open_session(file, exact_here(self.target, hosts.this(), hosts.cores()))
        fed = self.fed
        if fed is None or fed.kind == "absorbed":
            fed = Entry(kind="pixels", name=session.get_inputs()[0].name)
        feed = fed.feed(self.folder / JUDGED)
        parts: list[list[NDArray[Any]]] = []
        groups: list[str] = []
        indices: list[Indices] = []
        for start, inputs, answers in answered(session, feed, _BATCH, _MOST_BYTES):
            parts.append(answers)
            groups.append(_size(inputs, fed.channels_first) if fed.kind != "arrays" else "")
            indices.append(np.arange(start, start + feed.size_of(inputs)))
        axes = batch_axes(session, feed)
        found: dict[str, NDArray[Any]] = {}
        for at, value in enumerate(session.get_outputs()):
            found |= _by_size(value.name, [part[at] for part in parts], groups, axes[at])
        return found, np.concatenate(indices)


def _by_size(name: str, parts: list[NDArray[Any]], sizes: list[str], axis: int) -> dict[str, NDArray[Any]]:
    """Return one output's batches as one array, or where its shape follows the image's size as one for each size."""
    one_shape = len({part.shape[:axis] + part.shape[axis + 1 :] for part in parts}) == 1
    if one_shape or len(set(sizes)) == 1:
        return {name: joined(parts, axis)}
    return {
        f"{name} at {size}": joined([part for part, of in zip(parts, sizes, strict=True) if of == size], axis)
        for size in dict.fromkeys(sizes)
    }


def _size(inputs: Inputs, channels_first: bool) -> str:
    """Return height and width of a batch of images."""
    shape = next(iter(inputs.values())).shape
    height, width = shape[2:] if channels_first else shape[1:3]
    return f"{height}×{width}"
