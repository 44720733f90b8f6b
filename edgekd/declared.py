"""Which files beside a recipe its code reads: each must be declared, since what is not hashed makes stale results.

Python reports every file that it opens to audit hooks (PEP 578). What native code opens, such as safetensors or OpenCV,
is not seen: that too must be declared, and nothing here notices where it is not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from edgekd.errors import RecipeError

_CODE = {".py", ".pyc", ".so", ".pyd"}


@dataclass
class _Watch:
    """One run of a user's code."""

    folder: str
    opened: list[str] = field(default_factory=list)


# An audit hook is of the whole process, cannot be taken away, and is told nothing of who opens: hence this list.
_watches: list[_Watch] = []


@contextmanager
def watched(folder: Path, declared: Collection[str], table: str) -> Iterator[None]:
    """Run a user's code. Raises RecipeError where it read a file below the folder that is neither code nor declared.

    `declared` are paths relative to the folder, `table` the recipe's table that may declare them.
    """
    if not table:
        yield  # such as a data function, which is asked at every build
        return
    _install()
    watch = _Watch(os.path.realpath(folder))
    _watches.append(watch)
    try:
        yield
    finally:
        _watches.remove(watch)
        _check(watch, declared, table)


def _check(watch: _Watch, declared: Collection[str], table: str) -> None:
    named = {Path(name).as_posix() for name in declared}
    undeclared = sorted(set(watch.opened) - named)
    if undeclared:
        files = ", ".join(f'"{name}"' for name in sorted({*named, *undeclared}))
        raise RecipeError(
            f"the code of [{table}] reads {undeclared[0]}, which the recipe does not name: "
            "a change of it would go unnoticed",
            f"add to [{table}]: files = [{files}]",
        ) from None


@cache
def _install() -> None:
    sys.addaudithook(_hook)


def _hook(event: str, given: tuple[Any, ...]) -> None:
    if event == "open" and _watches:
        path, mode, flags = given
        if isinstance(path, str | bytes | os.PathLike) and not _writes(mode, flags):
            _note(os.fsdecode(path))


def _writes(mode: str | None, flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) or bool(set(mode or "") & set("wax+"))


def _note(path: str) -> None:
    real = os.path.realpath(path)
    # Python's own packages may lie in an environment beside the recipe.
    if real.startswith(os.path.realpath(sys.prefix) + os.sep) or not Path(real).is_file():
        return
    for watch in _watches:
        if real.startswith(watch.folder + os.sep):
            name = Path(real).relative_to(watch.folder)
            hidden = any(part.startswith((".", "__pycache__")) for part in name.parts)
            if not hidden and name.suffix not in _CODE:
                watch.opened.append(name.as_posix())
