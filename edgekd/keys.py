"""What stands for the inputs of a stage in its key: plain values, file contents, versions of tools."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from edgekd.ref import Ref

LENGTH = 32
"""Hexadecimal digits of a key: 128 of sha256's bits."""
PATTERN = "[0-9a-f]" * LENGTH
"""A key, for glob."""


def key_of(inputs: Mapping[str, Any]) -> str:
    """Return the key of some inputs. Raises TypeError for a value that cannot be hashed."""
    return digest_of(plain(inputs))[:LENGTH]


def digest_of(value: Any) -> str:
    """Return the sha256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def version_of(tool: str) -> str:
    """Return the version of an installed distribution."""
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        # onnxruntime comes under the names of its builds.
        return importlib.metadata.version(f"{tool}-gpu")


def plain(value: Any) -> Any:
    """Return the JSON form of a value that can be hashed; nothing else can be an argument of a stage.

    Raises TypeError for any other.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Ref):
        return value.content()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be hashed")
