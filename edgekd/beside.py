"""Files and folders that are whole or not there: written beside their place, flushed, then renamed into it."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgekd.errors import EdgekdError

_HINT = "choose another folder with --out"


def write_text(file: Path, text: str) -> None:
    """Write a text file whole: a crash at any moment leaves the old one or the new one. Raises OSError."""
    write_bytes(file, text.encode("utf-8", "surrogateescape"))


def write_bytes(file: Path, content: bytes | memoryview) -> None:
    """As `write_text`, of bytes."""
    beside = file.with_name(file.name + ".new")
    with beside.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(file)
    flush_folder(file.parent)


def flush(path: Path) -> None:
    """Have the disk hold a file, or all of a folder, before a rename says that it is there. Raises OSError."""
    if not path.is_dir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        return
    for inside in path.iterdir():
        flush(inside)
    flush_folder(path)


def flush_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder, so that a rename outlives a loss of power. Raises OSError."""
    if os.name == "nt":
        return  # a folder cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; at the end it takes the place of `folder`, after an error nothing has changed.

    A link is followed. Raises EdgekdError where the folder cannot be written.
    """
    real = folder.resolve()
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        _sweep(real)
        part = Path(tempfile.mkdtemp(prefix=f".{real.name}.{os.getpid()}.", dir=real.parent))
        part.chmod(0o755)
    except OSError as error:
        raise EdgekdError(f"cannot write {folder}: {error.strerror}", _HINT) from None
    try:
        yield part
        flush(part)
        try:
            _take_place(part, real)
            flush_folder(real.parent)
        except OSError as error:
            raise EdgekdError(f"cannot write {folder}: {error.strerror}", _HINT) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_writable(folder: Path, names: Sequence[str] = ()) -> None:
    """Try to write where folders of these names will go, before any work, and leave nothing. Raises EdgekdError."""
    probe = folder / ".edgekd-probe"
    try:
        for place in (folder, *folder.parents):
            if place.exists() and not place.is_dir():
                raise EdgekdError(f"cannot write to {folder}: {place} is a file", _HINT)
        for name in names:
            if (folder / name).exists() and not (folder / name).is_dir():
                raise EdgekdError(f"cannot write {folder / name}: it is a file", f"move it away, or {_HINT}")
        made = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
        for each in made:
            each.rmdir()
    except OSError as error:
        raise EdgekdError(f"cannot write to {folder}: {error.strerror}", _HINT) from None


def _sweep(folder: Path) -> None:
    """Delete what processes that died have left beside a folder; their numbers are in the names."""
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*"):
        number = left.name.removeprefix(f".{folder.name}.").partition(".")[0]
        if number.isdecimal() and not _is_running(int(number)):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return True  # there is no signal there that only asks
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _take_place(part: Path, folder: Path) -> None:
    if not folder.exists():
        part.rename(folder)
        return
    old = part.with_name(f"{part.name}.old")
    folder.rename(old)
    try:
        part.rename(folder)
    except BaseException:
        if not folder.exists():
            old.rename(folder)
        raise
    finally:
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
