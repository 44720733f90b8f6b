"""How far a file's answers are from those of its float parent, whatever its outputs are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto

from edgekd.errors import ModelError
from edgekd.quantize.divergence import Answers, Difference, Measure
from edgekd.quantize.trial import to_db
from edgekd.quantize.wiring import Wiring, attribute

_PREFIX = "output/"
"""An output may be named as one of numpy's own arguments."""
_PASSED_ON = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Cast"})


def write(answers: Answers, file: Path) -> None:
    """Write the outputs of one evaluation."""
    arrays: dict[str, Any] = {f"{_PREFIX}{name}": value for name, value in answers.items()}
    np.savez(file, **arrays)


def read(file: Path) -> Answers:
    """Return the outputs, by name, that an evaluation wrote."""
    with np.load(file, allow_pickle=False) as archive:
        return {name.removeprefix(_PREFIX): archive[name] for name in archive.files}


def classes_of(model: ModelProto, task: str, has_labels: bool) -> tuple[str, ...]:
    """Return the outputs that are scores of classes, [N, classes].

    Those that the user says (`task` "classification"), that a Softmax makes, or that the labels of the data fit: any
    other [N, C] may as well be an embedding, a spectrum or landmarks. Raises ModelError for a task that no output fits.
    """
    rows = [value.name for value in model.graph.output if _may_be_classes(value)]
    if task == "classification" and not rows:
        raise ModelError(
            "--task classification: no output of the graph is [N, classes]", "leave --task out for dense outputs"
        )
    if task == "dense":
        return ()
    if task == "classification" or (has_labels and len(model.graph.output) == 1):
        return tuple(rows)
    wiring = Wiring(model)
    return tuple(name for name in rows if _is_softmax(name, wiring))


@dataclass(frozen=True)
class Comparison:
    """What a file loses against its float parent."""

    lost: float
    """0-1: by the user's metric where there is one, else the worst output's."""
    words: str
    """What `lost` is a part of."""
    outputs: tuple[Difference, ...]

    @property
    def agreement(self) -> float | None:
        """The part of samples with the same class; None where an output is something else."""
        if not self.outputs or any(each.kind != "classes" for each in self.outputs):
            return None
        return 1 - max(each.lost for each in self.outputs)

    @property
    def sqnr(self) -> float:
        """The smallest signal-to-noise ratio of all outputs and their groups of channels, in dB."""
        return to_db(max((each.noise for each in self.outputs), default=0.0))


def compare(one: Path, other: Path, measure: Measure) -> Comparison:
    """Compare two evaluations, the float parent's first. Raises EdgekdError where the user's metric fails."""
    reference, found = read(one), read(other)
    outputs = measure.differences(reference, found)
    return Comparison(measure.lost(reference, found, outputs), measure.words(outputs), outputs)


def _may_be_classes(value: ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    is_float = tensor.elem_type in {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}
    return is_float and len(dims) >= 2 and dims[1].dim_value != 1 and all(dim.dim_value == 1 for dim in dims[2:])


def _is_softmax(name: str, wiring: Wiring) -> bool:
    """Whether a Softmax makes an output, perhaps passed on by nodes that compute nothing."""
    node = wiring.producer.get(name)
    while node is not None and node.op_type in _PASSED_ON:
        node = wiring.producer.get(node.input[0])
    return node is not None and node.op_type in {"Softmax", "LogSoftmax"} and attribute(node, "axis", -1) in (-1, 1)
