"""The samples that `edgekd quantize` calibrates on, those it judges by, and what a file answers to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto

from edgekd import host as hosts
from edgekd import runtime
from edgekd.quantize.entry import Entry, labels_of
from edgekd.quantize.trial import answers_of
from edgekd.run import Run
from edgekd.runtime import exact_here
from edgekd.standalone import judging
from edgekd.standalone.asked import Request, inputs_of
from edgekd.store import Artifact
from edgekd.target import Target
from edgekd.workload import gather

CALIBRATION = "calibration"
JUDGED = "judged"
_MOST_JUDGED = 2000
_MOST_BYTES = 256 * 2**20
_BATCH = 50


def collect(
    request: Request, model: ModelProto, entry: Entry | None, shape: tuple[int, int], folder: Path, run: Run
) -> bool:
    """Write the calibration samples, and others to judge by where there are any; return whether they have labels."""
    samples = request.settings.quantize.samples
    if entry is not None and entry.kind == "arrays":
        wanted = {value.name: _wanted(value) for value in inputs_of(model)}
        gather.write_arrays(request.data, wanted, samples, folder / CALIBRATION)
        (folder / JUDGED).symlink_to(folder / CALIBRATION, target_is_directory=True)
        return False
    if entry is None or entry.kind == "normalised":
        mean, std = (tuple(f"{each:g}" for each in triple) for triple in (request.mean, request.std))
        if entry is not None or request.absorb:
            run.say(f"pixels are fed as (pixel - mean) / std, mean {', '.join(mean)}, std {', '.join(std)}")
    found = gather.pictures(request.data)
    chosen, rest = gather.draw(found, samples, request.seed)
    gather.write_pictures(chosen, shape, folder / CALIBRATION, run)
    if rest.files:
        few, _ = gather.draw(rest, min(_MOST_JUDGED, len(rest.files)), request.seed)
        gather.write_pictures(few, shape, folder / JUDGED, run)
    else:
        (folder / JUDGED).symlink_to(folder / CALIBRATION, target_is_directory=True)
    return found.labels is not None and _classes(model) == len(found.classes)


def _classes(model: ModelProto) -> int:
    """Return how many classes the one output scores; 0 where it is no such output."""
    outputs = model.graph.output
    dims = outputs[0].type.tensor_type.shape.dim
    return dims[1].dim_value if len(outputs) == 1 and len(dims) == 2 else 0


def _wanted(value: ValueInfoProto) -> tuple[np.dtype[np.generic], tuple[int | None, ...]]:
    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return np.dtype(kind), tuple(dim.dim_value or None for dim in value.type.tensor_type.shape.dim[1:])


@dataclass(frozen=True)
class Evaluator:
    """An ONNX file on the samples that it is judged by, once each: the float graph takes what its entry says."""

    target: Target
    fed: Entry | None
    folder: Path
    has_labels: bool

    def __call__(self, file: Path) -> Artifact:
        """Return all outputs as an npz; top-1 of the first where there are labels, else 0."""
        found = self.folder / f"{file.parent.parent.name}-{file.stem}.npz"
        if not found.exists():
            judging.write(self._answers(file), found)
        labels = labels_of(self.folder / JUDGED) if self.has_labels else None
        if labels is None:
            return Artifact("evaluate", found, {"top1": 0.0})
        scores = next(iter(judging.read(found).values()))
        named = scores.reshape(len(scores), -1).argmax(1)
        return Artifact("evaluate", found, {"top1": float((named == labels[: len(named)]).mean())})

    def _answers(self, file: Path) -> dict[str, NDArray[Any]]:
        session = runtime.open_session(file, exact_here(self.target, hosts.this(), hosts.cores()))
        fed = self.fed
        if fed is None or fed.kind == "absorbed":
            fed = Entry(kind="pixels", name=session.get_inputs()[0].name)
        # Of dense outputs as many images as memory holds, the same ones of every file.
        return answers_of(session, fed.feed(self.folder / JUDGED), _BATCH, _MOST_BYTES)
