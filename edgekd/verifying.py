"""Read all that a store holds, and set aside what is not what was written.

A build looks at what it uses only, and takes a file for unchanged whose size, times and inode are: this finds rot too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from edgekd import choices, record
from edgekd.errors import EdgekdError
from edgekd.hashes import HashCache
from edgekd.keys import PATTERN
from edgekd.record import DamagedError
from edgekd.run import Progress, Run
from edgekd.slot import set_aside


@dataclass(frozen=True)
class Verified:
    """What a store holds."""

    whole: int
    """Artifacts, measured files, and the file of choices."""
    damaged: tuple[str, ...]
    """Names within the store of what was set aside."""


def verify(store: Path, run: Run) -> Verified:
    """Check every artifact by its digest, by reading all of it. Raises EdgekdError for a folder that is no store.

    What is damaged is renamed to `<name>.damaged`; the next build makes it again.
    """
    if not (store / "locks").is_dir():
        raise EdgekdError(f"{store} is not a store", "name the .edgekd folder that edgekd build made beside the recipe")
    damaged: list[str] = []
    artifacts = sorted(folder for folder in store.glob(f"*-{PATTERN}") if folder.is_dir())
    for number, folder in enumerate(artifacts):
        run.show(Progress("verify", number, len(artifacts), folder.name))
        with FileLock(store / "locks" / f"{folder.name}.lock"):
            try:
                _check(folder)
            except DamagedError as error:
                damaged.append(_set_aside(folder, str(error), run))
    files = _files(store, run, damaged)
    return Verified(len(artifacts) + files - len(damaged), tuple(damaged))


def _check(folder: Path) -> None:
    """Raise DamagedError unless one of the files or folders in an artifact's folder fits its record."""
    found = record.read(folder)
    outputs = [path for path in sorted(folder.iterdir()) if path.name != record.FILE_NAME]
    for output in outputs:
        try:
            found.check(folder.name, HashCache(None).digest(output))
        except DamagedError:
            # A checkpoint that a kill has left beside the output does not fit; the output has to.
            if output == outputs[-1]:
                raise
        else:
            return
    raise DamagedError("its files are damaged")


def _files(store: Path, run: Run, damaged: list[str]) -> int:
    """Check what was measured; return how many files there are."""
    file = store / "choices.json"
    try:
        known = choices.read(file)
    except choices.DamagedChoicesError:
        damaged.append(_set_aside(file, "it is damaged", run))
        return 1
    measured = [store / name for name in known if (store / name).is_file()]
    for each in measured:
        if HashCache(None).digest(each) != known[each.name]:
            damaged.append(_set_aside(each, "it is damaged", run))
    return len(measured) + file.exists()


def _set_aside(path: Path, why: str, run: Run) -> str:
    aside = set_aside(path)
    run.say(f"{path.name}: {why}: set aside as {aside.name}, the next build makes it again")
    return path.name
