"""What can go wrong by a user's doing, each with a way out.

    EdgekdError          message and hint; the command line prints both and exits with 1
    ├── RecipeError      edgekd.toml, --set, a reference "module:callable"
    ├── TargetError      a target file, or a machine that is not the target
    ├── DataError        images, labels, splits
    └── ModelError       weights, architectures, ONNX files
        └── DivergedError    a training whose loss or gradient is no number, or has run away

Anything else that escapes is a bug of edgekd and keeps its stack trace.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgekdError(Exception):
    """A mistake that the user can mend: one line says what is wrong, one how to go on."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RecipeError(EdgekdError):
    """The recipe, an override of it, or code that it names."""


class TargetError(EdgekdError):
    """A target file, or what it asks of this machine."""


class DataError(EdgekdError):
    """The images, their labels or their splits."""


class ModelError(EdgekdError):
    """Weights, an architecture or an ONNX file."""


class DivergedError(ModelError):
    """A training that cannot go on."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean "x"? ` for the nearest known word, or nothing when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f'did you mean "{near[0]}"? ' if near else ""


def first_line(error: BaseException) -> str:
    """Return the first line of what another library's exception says, or its kind where it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__
