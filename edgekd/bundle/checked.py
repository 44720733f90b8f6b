"""Whether a bundle is what was written: every file of its manifest, each with its hash, and no other."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from edgekd.bundle.manifest import Manifest
from edgekd.errors import ModelError

MANIFEST = "manifest.json"
_HINT = "copy the folder again from where it was built, or build it again"


def is_bundle(folder: Path) -> bool:
    """Whether a path is a folder with a manifest."""
    return (folder / MANIFEST).is_file()


def checked(folder: Path) -> Manifest:
    """Return the manifest of a bundle. Raises ModelError where a file differs from it, is missing, or is not in it."""
    manifest = _read(folder / MANIFEST)
    here = {entry.name for entry in folder.iterdir()} - {MANIFEST}
    if missing := sorted(set(manifest.files) - here):
        raise ModelError(f"{folder} lacks {', '.join(missing)}, which its {MANIFEST} lists", _HINT)
    if others := sorted(here - set(manifest.files)):
        raise ModelError(
            f"{folder} holds {', '.join(others)}, which its {MANIFEST} does not list",
            "move to another folder what is not part of the bundle",
        )
    for name, wanted in manifest.files.items():
        file = folder / name
        if not file.is_file() or sha256(file) != wanted:
            raise ModelError(f"{file} is not the file that was written: its sha256 is not the manifest's", _HINT)
    return manifest


def sha256(file: Path) -> str:
    """Return the hash of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(file: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModelError(
            f"{file} is not a bundle's manifest: {where + ': ' if where else ''}{first['msg']}", _HINT
        ) from None
