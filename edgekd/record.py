"""The record of an artifact: what it was made from, what was measured, and a digest that both must fit.

`record.json` lies beside the artifact and is written last. The folder's name ends in the key of its inputs, and the
digest covers the output's bytes and the metrics, so that no part of a folder can change unnoticed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from edgekd.beside import write_text
from edgekd.keys import digest_of, key_of

FILE_NAME = "record.json"


class DamagedError(Exception):
    """An artifact is not what its record says, or has none that can be read."""


class Record(BaseModel):
    """What `record.json` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    stage: str
    version: int
    tools: dict[str, str]
    arguments: dict[str, Any]
    metrics: dict[str, Any]
    subject: str = ""
    """What the stage worked on, in words: not part of the key."""
    digest: str = ""
    """Of the output and the metrics; empty in a record that was written before there were digests."""

    @property
    def identity(self) -> dict[str, Any]:
        """What the key is made of."""
        return {"stage": self.stage, "version": self.version, "tools": self.tools, "arguments": self.arguments}

    def sealed(self, output: str) -> Record:
        """Return this record with the digest of its metrics and of the output, whose sha256 is given."""
        # As they will be read, in the same order: JSON has no tuples, and only text for keys.
        metrics = json.loads(json.dumps(self.metrics, sort_keys=True))
        return self.model_copy(update={"metrics": metrics, "digest": _seal(metrics, output)})

    def check(self, folder: str, output: str) -> None:
        """Raise DamagedError unless the folder's name and the sha256 of its output fit."""
        if folder != f"{self.stage}-{key_of(self.identity)}":
            raise DamagedError("its record is of other inputs")
        if self.digest and self.digest != _seal(self.metrics, output):
            raise DamagedError("its files are damaged")


def read(folder: Path) -> Record:
    """Return the record of an artifact's folder. Raises DamagedError where it has none that can be read."""
    try:
        return Record.model_validate(json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DamagedError("it has no record") from None
    except (ValidationError, ValueError, RecursionError):
        raise DamagedError("its record is damaged") from None


def write(record: Record, folder: Path) -> None:
    """Write the record of an artifact's folder, whole or not at all."""
    text = record.model_dump(mode="json", exclude_defaults=True)
    write_text(folder / FILE_NAME, json.dumps(text, indent=1, sort_keys=True))


def _seal(metrics: dict[str, Any], output: str) -> str:
    return digest_of({"metrics": metrics, "output": output})
