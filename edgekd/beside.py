"""Folders that are whole or not there: filled beside their place, then renamed into it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekd.errors import EdgekdError


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; at the end it takes the place of `folder`, after an error nothing has changed.

    Raises EdgekdError where it cannot be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    part.chmod(0o755)
    try:
        yield part
        if folder.exists():
            old = part.with_name(f"{part.name}.old")
            folder.rename(old)
            part.rename(folder)
            shutil.rmtree(old)
        else:
            part.rename(folder)
    except PermissionError:
        raise EdgekdError(f"cannot write {folder}", "choose another folder with --out") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
