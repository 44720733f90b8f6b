"""What every table of a recipe is made of."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Temperature = Annotated[float, Field(gt=0, le=1000)]
NotNegative = Annotated[float, Field(ge=0)]
Pixels = tuple[float, float, float]
Side = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Scalar = bool | int | float | str


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
