"""A key is described by its own type: what is said is what pydantic takes."""

from __future__ import annotations

import json
import tomllib
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.fields import FieldInfo

from edgekd.expected import as_toml, describe
from edgekd.recipe import (
    Augment,
    Bench,
    Budget,
    Compute,
    Data,
    Distill,
    Finetune,
    Prune,
    Quantize,
    RandAugment,
    Recipe,
    Sparse,
    Teacher,
    TeacherCache,
)
from edgekd.target import Device, Int8, Runtime, Target


class Keys(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    count: Annotated[int, Field(ge=1)] = 20
    """How many."""
    rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    side: Annotated[int, Field(ge=1, le=9)] | tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = 4
    kind: Literal["a", "b"] | bool = "a"
    names: tuple[str, ...] = ()
    size: float = Field(default=0.0, examples=[500])


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("count", "count takes a whole number of at least 1; by default count = 20. How many."),
        ("rate", "rate takes a number above 0 and below 1; for example rate = 0.5"),
        (
            "side",
            "side takes a whole number from 1 to 9, or a list [ ] of 2, each a whole number of at least 1; "
            "by default side = 4",
        ),
        ("kind", 'kind takes one of "a", "b", or true or false, without quotes; by default kind = "a"'),
        ("names", 'names takes a list [ ], each text in quotes; for example names = ["…"]'),
        ("size", "size takes a number; for example size = 500"),
    ],
)
def test_range_default_and_example_come_from_the_type(key: str, line: str) -> None:
    assert describe(key, Keys.model_fields[key]) == line


TABLES = (
    Recipe, Data, Teacher, Distill, Augment, RandAugment, TeacherCache, Prune, Sparse, Quantize, Finetune, Bench,
    Budget, Compute, Target, Device, Runtime, Int8,
)  # fmt: skip
PLAIN = [
    pytest.param(field.alias or name, field, id=f"{table.__name__}.{name}")
    for table in TABLES
    for name, field in table.model_fields.items()
    if not field.exclude and " table " not in describe(name, field)
]


@pytest.mark.parametrize(("name", "field"), PLAIN)
def test_every_key_shows_an_example_that_it_takes(name: str, field: FieldInfo) -> None:
    """Read as TOML, and checked as a recipe is: strictly, out of JSON."""
    shown = describe(name, field).partition("; by default ")[2] or describe(name, field).partition("; for example ")[2]
    value = tomllib.loads(shown.partition(". ")[0].replace("…", "a"))[name]
    taken = Annotated[field.annotation, Field(), *field.metadata]
    TypeAdapter(taken, config=ConfigDict(strict=True)).validate_json(json.dumps(value))


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 1e-30, 0.1, [1, 2.5, True, 'a"b'], "C:\\x"])
def test_a_value_is_spelt_as_toml_reads_it(value: object) -> None:
    assert tomllib.loads(f"x = {as_toml(value)}")["x"] == value
