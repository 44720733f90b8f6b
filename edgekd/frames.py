"""Where in the user's own code an exception arose."""

from __future__ import annotations

import traceback
from pathlib import Path

_PACKAGE = Path(__file__).parent
_LONGEST = 300
_INSTALLED = {"site-packages", "dist-packages"}


def said(error: BaseException, folder: Path) -> str:
    """Return what an exception says in one line, with the last line of code below `folder` that it went through."""
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({'' if error.code is None else repr(error.code)}){place(error, folder)}"
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    shown = f"{text[:_LONGEST]}…" if len(text) > _LONGEST else text
    return f"{type(error).__name__}{f': {shown}' if shown else ''}{place(error, folder)}"


def place(error: BaseException, folder: Path) -> str:
    """Return ` (nets.py, line 12: return self.fc(x))`, or nothing where no code below the folder had a part in it."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return _shown(Path(error.filename), error.lineno, _line(Path(error.filename), error.lineno), folder)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.lineno and (shown := _shown(Path(frame.filename), frame.lineno, frame.line or "", folder)):
            return shown
    return ""


def _shown(file: Path, number: int, line: str, folder: Path) -> str:
    """Return file, line number and line, or nothing for a file that is not the user's own."""
    try:
        below = file.resolve().relative_to(folder.resolve())
    except ValueError:
        return ""
    # A recipe's folder may hold a virtual environment, or be our own checkout.
    if _INSTALLED & set(below.parts) or _PACKAGE in file.resolve().parents:
        return ""
    return f" ({below}, line {number}: {line.strip()})" if line.strip() else f" ({below}, line {number})"


def _line(file: Path, number: int) -> str:
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError:
        return ""
    return lines[number - 1].decode("utf-8", "replace") if number <= len(lines) else ""
