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
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, all that `str.splitlines` breaks at, and what Python reads file names that are not UTF-8 as."""


class EdgekdError(Exception):
    """A mistake that the user can mend: one line says what is wrong, one how to go on."""

    def __init__(self, message: str, hint: str) -> None:
        # Both quote names out of files of others: those must neither drive a terminal nor fail to be written as UTF-8.
        self.message, self.hint = ("\n".join(map(printable, text.split("\n"))) for text in (message, hint))
        super().__init__(self.message)


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


def uncapitalised(reason: str) -> str:
    """Return what another library complains of, so that it can follow a colon."""
    return reason[:1].lower() + reason[1:]


def is_printable(name: str) -> bool:
    """Whether a name stays on one line and can be written as UTF-8."""
    return _UNPRINTABLE.search(name) is None


def printable(name: str | Path) -> str:
    """Return a name of a file as text on one line: control characters, and bytes that are not UTF-8, as escapes."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(name))


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return names with commas between them: the first `most`, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(count: int, noun: str) -> str:
    """Return a number and what it counts, such as 1 file, 2 files."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
