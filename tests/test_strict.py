"""Pydantic's complaints as one line in the user's own words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from edgekd.strict import explain


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Inner(Table):
    width: int = 1
    size: int | tuple[int, int] = 1

    @field_validator("width")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("Must be odd")
        return value


class Outer(Table):
    name: str
    inner: Inner | None = None
    plain: Inner = Inner()


def explained(values: dict[str, Any]) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate_json(json.dumps(values))
    return explain(caught.value, Outer, "f.toml")


@pytest.mark.parametrize("table", ["inner", "plain"])
def test_an_unknown_key_lists_the_keys_of_its_own_table(table: str) -> None:
    message, hint = explained({"name": "n", table: {"widht": 3}})
    assert message == f'f.toml: unknown key "widht" in [{table}]'
    assert hint == 'did you mean "width"? known keys: width, size'


def test_an_unknown_key_far_from_all_others_gets_no_suggestion() -> None:
    _, hint = explained({"name": "n", "zzz": 1})
    assert hint == "known keys: name, inner, plain"


def test_a_missing_key_is_said_to_be_missing() -> None:
    assert explained({})[0] == "f.toml: name is missing"


def test_a_union_leaves_no_type_names_in_the_key() -> None:
    message, _ = explained({"name": "n", "inner": {"size": "big"}})
    assert message.startswith('f.toml: inner.size = "big": ')


def test_an_element_of_a_list_is_named_by_its_position() -> None:
    message, _ = explained({"name": "n", "inner": {"size": [1, "x"]}})
    assert message.startswith("f.toml: inner.size")
    assert "tuple" not in message.partition(" = ")[0]


def test_our_own_reasons_lose_pydantics_prefix() -> None:
    assert explained({"name": "n", "inner": {"width": 2}})[0] == "f.toml: inner.width: must be odd"


def test_only_the_first_of_many_complaints_is_told() -> None:
    message, _ = explained({"inner": {"width": "a", "size": "b"}})
    assert message.count("f.toml") == 1
    assert "\n" not in message


def test_a_key_that_is_no_identifier_is_named_like_any_other() -> None:
    assert 'unknown key "min-name" in the top level' in explained({"name": "x", "min-name": 1})[0]
