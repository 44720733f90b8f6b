"""choices.json: what measurements chose, and the digests of measured files, sealed against damage."""

from __future__ import annotations

import json
from pathlib import Path

from edgekd.beside import write_text
from edgekd.keys import digest_of

_SEAL = "sha256"


class DamagedChoicesError(Exception):
    """The file is there, and is not what was written."""


def read(file: Path) -> dict[str, str]:
    """Return all answers by their question and key. Raises DamagedChoicesError."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        raise DamagedChoicesError from None
    if not isinstance(found, dict) or not all(isinstance(answer, str) for answer in found.values()):
        raise DamagedChoicesError
    seal = found.pop(_SEAL, None)  # a file that was written before there were seals has none
    if seal is not None and seal != digest_of(found):
        raise DamagedChoicesError
    return found


def write(file: Path, answers: dict[str, str]) -> None:
    """Write all answers, whole or not at all."""
    write_text(file, json.dumps({**answers, _SEAL: digest_of(answers)}, indent=1, sort_keys=True))
