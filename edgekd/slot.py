"""Where one artifact lies on disk, so that a crash at any moment leaves the old one, the new one, or none.

A stage works in `<name>.part/`, writes its record last, and the part is renamed into place. What must go is renamed
before it is deleted: a deletion that is cut short never leaves half an artifact under its name.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd import record
from edgekd.beside import flush, flush_folder
from edgekd.hashes import HashCache
from edgekd.record import DamagedError, Record

_BEGUN_ANEW = "begun-anew"
_GONE = ".gone"


@dataclass(frozen=True)
class Slot:
    """The place of one artifact in a store."""

    folder: Path
    """Named after the stage and the key of its inputs."""
    writes: str
    """The file or folder in it that the stage writes."""
    resumes: bool
    """Whether the stage goes on from what it left beside its output when it was killed."""
    hashes: HashCache

    def read(self) -> Record | None:
        """Return the record of a whole artifact, or None where there is none. Raises DamagedError."""
        return self._checked(self.folder) if self.folder.exists() else None

    def fill(self, asked: Record, forced: bool, work: Callable[[Path], dict[str, Any]]) -> Record:
        """Put what `work` writes, or had written when it was killed, into the place, and return its record.

        `forced`: begin anew, unless the last such attempt was killed.
        """
        self._open(forced)
        made = self._finished_before() or self._worked(asked, work)
        self._discard(self.folder)
        self._part.rename(self.folder)
        flush_folder(self.folder.parent)
        self.hashes.moved(self._part, self.folder)
        return made

    def tidy(self) -> None:
        """Delete what a finished stage needs no more: its checkpoints, or what a kill kept from being deleted."""
        for other in self.folder.iterdir():
            if other.name not in {self.writes, record.FILE_NAME}:
                self._discard(other)

    @property
    def _part(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.part")

    def _checked(self, folder: Path) -> Record:
        found = record.read(folder)
        try:
            found.check(self.folder.name, self.hashes.digest(folder / self.writes))
        except FileNotFoundError:
            raise DamagedError("its files are damaged") from None
        return found

    def _open(self, forced: bool) -> None:
        """Keep what a killed stage left, where it may go on from that; else begin with an empty folder."""
        begun = self._part / _BEGUN_ANEW
        is_whole = (self._part / record.FILE_NAME).exists()
        if (forced and not begun.exists()) or not (self.resumes or is_whole):
            self._discard(self._part)
        self._part.mkdir(exist_ok=True)
        if forced:
            begun.touch()

    def _finished_before(self) -> Record | None:
        """Return the record of a part that a kill kept from its place, although it is whole."""
        with contextlib.suppress(DamagedError):
            return self._checked(self._part)
        return None

    def _worked(self, asked: Record, work: Callable[[Path], dict[str, Any]]) -> Record:
        out = self._part / self.writes
        # Killed before its record: nothing says that what it wrote is whole.
        self._discard(self._part / record.FILE_NAME)
        self._discard(out)
        try:
            metrics = work(out)
        except Exception:
            # Nothing half-written is left, but for what a training needs to go on.
            if not self.resumes or all(path.name == _BEGUN_ANEW for path in self._part.iterdir()):
                self._discard(self._part)
            raise
        flush(out)
        made = asked.model_copy(update={"metrics": metrics}).sealed(self.hashes.digest(out))
        record.write(made, self._part)
        return made

    def _discard(self, path: Path) -> None:
        _discard(path, self.folder.parent)


def sweep(store: Path) -> None:
    """Delete what a kill kept from being deleted."""
    for half_deleted in store.glob(f"*{_GONE}"):
        shutil.rmtree(half_deleted, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Take something damaged out of its place in a store; what was damaged last stays, to be looked at."""
    aside = path.with_name(f"{path.name}.damaged")
    _discard(aside, path.parent)
    path.rename(aside)
    return aside


def _discard(path: Path, store: Path) -> None:
    if path.is_dir():
        gone = Path(tempfile.mkdtemp(suffix=_GONE, prefix="", dir=store))
        path.rename(gone / path.name)
        shutil.rmtree(gone)
    else:
        path.unlink(missing_ok=True)
