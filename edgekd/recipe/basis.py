"""What every table of a recipe is made of."""

from __future__ import annotations

import json
import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Temperature = Annotated[float, Field(gt=0, le=1000)]
NotNegative = Annotated[float, Field(ge=0)]
Pixels = tuple[float, float, float]
Side = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _checked(arguments: dict[str, JsonValue]) -> dict[str, JsonValue]:
    for name, value in arguments.items():
        _check_argument(name, value)
    return arguments


def _check_argument(path: str, value: JsonValue) -> None:
    """Raise ValueError for nan, infinity and None: pydantic's JsonValue takes them (2.14), a key cannot hold them."""
    inner: dict[str, JsonValue] = {}
    if isinstance(value, dict):
        inner = value
    elif isinstance(value, list):
        inner = {str(number): item for number, item in enumerate(value)}
    elif value is None or (isinstance(value, float) and not math.isfinite(value)):
        hint = "arguments are finite numbers, strings, true, false, and lists and tables of these"
        raise ValueError(f"{path} = {value} cannot be passed on", hint)
    for name, item in inner.items():
        _check_argument(f"{path}.{name}", item)


Arguments = Annotated[dict[str, JsonValue], AfterValidator(_checked)]
"""Of a user's callable, by name: booleans, numbers, strings, and lists and tables of such."""


def _without_escapes(value: str) -> str:
    if any(ord(letter) < ord(" ") for letter in value):
        raise ValueError(
            f"{json.dumps(value)} holds a control character",
            'in "…" a backslash begins an escape: write paths as \'C:\\new\' in single quotes, or as "C:/new"',
        )
    return value


FilePath = Annotated[str, AfterValidator(_without_escapes)]
"""Where a file or folder lies."""


class Table(BaseModel):
    """A table of the recipe: unknown keys and wrong types are errors, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
