"""Content hashes of files and folders, remembered by path, size, time and inode as git does."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from edgekd.keys import digest_of

_RACY_NS = 2_000_000_000
"""A file changed this recently may change again within the clock's step: its hash is not remembered."""


class HashCache:
    """Hashes by bytes; a file whose stat is as it was is not read again."""

    def __init__(self, file: Path | None) -> None:
        """Go on from what `file` remembers; with None every file is read as it is now."""
        self._file = file
        self._changed = False
        self._known = _read(file) if file is not None else {}

    def digest(self, path: Path) -> str:
        """Return the sha256 of a file, or of a folder's relative names and contents (hidden files left out)."""
        if path.is_dir():
            whole = hashlib.sha256()
            for file in sorted(files_below(path)):
                line = f"{file.relative_to(path).as_posix()}\0{self._file_digest(file)}\n"
                # Names need not be UTF-8: Python reads the other bytes as surrogates.
                whole.update(line.encode("utf-8", "surrogateescape"))
            return whole.hexdigest()
        return self._file_digest(path)

    def moved(self, old: Path, new: Path) -> None:
        """Remember a folder's files under the name that it was given; a rename changes none of them."""
        before, after = f"{old.absolute()}{os.sep}", f"{new.absolute()}{os.sep}"
        for name in [name for name in self._known if name.startswith(before)]:
            self._known[after + name.removeprefix(before)] = self._known.pop(name)

    def save(self) -> None:
        """Write what was learnt, beside then renamed."""
        if self._file is None or not self._changed or not self._file.parent.is_dir():
            return
        beside = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        beside.write_text(json.dumps({"files": self._known, "sha256": digest_of(self._known)}), encoding="utf-8")
        beside.replace(self._file)
        self._changed = False

    def _file_digest(self, file: Path) -> str:
        stat = file.stat()
        name = str(file.absolute())
        identity: list[int | str] = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        known = self._known.get(name)
        if known is not None and known[:-1] == identity:
            return str(known[-1])
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if time.time_ns() - stat.st_mtime_ns > _RACY_NS:
            self._known[name] = [*identity, digest]
            self._changed = True
        return digest


def _read(file: Path) -> dict[str, list[int | str]]:
    """Return what was remembered; nothing where it is not what was written: it only saves work."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        known: dict[str, list[int | str]] = content["files"]
        is_whole = content["sha256"] == digest_of(known)
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return known if is_whole else {}


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, through linked folders too, each real folder once; hidden names left out."""
    seen: set[str] = set()
    for name, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(name)
        # Cut off a link that leads back up; sorted, so that which of two names of a folder counts is always the same.
        folders[:] = [] if real in seen else sorted(each for each in folders if not each.startswith("."))
        if real not in seen:
            found = (Path(name) / file for file in files if not file.startswith("."))
            # A link that leads nowhere is no file to those who read the folder either.
            yield from (file for file in found if file.is_file())
        seen.add(real)
