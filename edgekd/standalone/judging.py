"""How far a file's answers are from those of its float parent, whatever its outputs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.quantize.trial import sqnr

Answers = dict[str, NDArray[Any]]
_PREFIX = "output/"
"""An output may be named as one of numpy's own arguments."""


def write(answers: Answers, file: Path) -> None:
    """Write the outputs of one evaluation."""
    arrays: dict[str, Any] = {f"{_PREFIX}{name}": value for name, value in answers.items()}
    np.savez(file, **arrays)


def read(file: Path) -> Answers:
    """Return the outputs, by name, that an evaluation wrote."""
    with np.load(file, allow_pickle=False) as archive:
        return {name.removeprefix(_PREFIX): archive[name] for name in archive.files}


def are_classes(output: NDArray[Any]) -> bool:
    """Whether an output is scores of classes, [N, classes]."""
    return output.ndim == 2 and output.shape[1] > 1 and np.issubdtype(output.dtype, np.floating)


def disagreement(one: Path, other: Path) -> float:
    """Return how far two evaluations differ, 0-1, over all outputs the worst.

    Of scores the part of samples whose class differs; of integers the part that differs; of other numbers the error
    relative to the float parent's.
    """
    found = read(other)
    return max((_of(value, found[name]) for name, value in read(one).items()), default=0.0)


def _of(parent: NDArray[Any], found: NDArray[Any]) -> float:
    if are_classes(parent):
        return float((parent.argmax(1) != found.argmax(1)).mean())
    if not np.issubdtype(parent.dtype, np.floating):
        return float((parent != found).mean())
    if np.array_equal(parent, found):
        return 0.0
    return min(1.0, float(10 ** (-sqnr({"": parent.astype(np.float64)}, {"": found.astype(np.float64)}) / 20)))


def worst_sqnr(one: Path, other: Path) -> float:
    """Return the smallest signal-to-noise ratio of all outputs, in dB."""
    parent, found = read(one), read(other)
    ratios = [
        sqnr({name: value.astype(np.float64)}, {name: found[name].astype(np.float64)}) for name, value in parent.items()
    ]
    return min(ratios, default=120.0)
