"""Turn pydantic's complaint about a TOML file into one line and one hint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from edgekd.errors import did_you_mean

_README = "see the README for what each key means"


def explain(error: ValidationError, model: type[BaseModel], where: str) -> tuple[str, str]:
    """Return (message, hint) for the first complaint: file, table, key, value, and the nearest key when one is near.

    A validator may give both itself: `raise ValueError(reason, hint)`.
    """
    first = error.errors()[0]
    tables, keys = _walk(model, first["loc"], keep_last=first["type"] == "extra_forbidden")
    key = ".".join(keys) or "the file"
    match first["type"]:
        case "extra_forbidden":
            table = f"[{'.'.join(keys[:-1])}]" if keys[:-1] else "the top level"
            return f'{where}: unknown key "{keys[-1]}" in {table}', _known(keys[-1], tables)
        case "missing":
            return f"{where}: {key} is missing", _README
        case "union_tag_not_found":
            return f"{where}: {key}.kind is missing", f"kinds: {', '.join(_kinds(tables))}"
        case "union_tag_invalid":
            kind = first["ctx"]["tag"]
            kinds = _kinds(tables)
            return f'{where}: {key}.kind: there is no "{kind}"', f"{did_you_mean(kind, kinds)}kinds: {', '.join(kinds)}"
        case "value_error":
            reason, *hint = first["ctx"]["error"].args
            return f"{where}: {key}: {_lower(reason)}", hint[0] if hint else _README
        case _:
            value = json.dumps(first["input"], default=str)
            return f"{where}: {key} = {value}: {_lower(first['msg'])}", _README


def _walk(
    model: type[BaseModel], location: Sequence[int | str], keep_last: bool
) -> tuple[list[type[BaseModel]], list[str]]:
    """Return the tables that may stand where a location leads, and the location in the user's words.

    A union puts its members' names into the location (`size.int`, `loss.0.kd`): those are not the user's.
    """
    tables = [model]
    keys: list[str] = []
    for number, part in enumerate(location):
        is_last = number + 1 == len(location)
        tagged = [table for table in tables if _kind(table) == part]
        fields = [found for table in tables if isinstance(part, str) and (found := _fields(table).get(part))]
        if isinstance(part, int):
            keys.append(str(part))
        elif tagged and len(tables) > 1:
            tables = tagged
        elif fields:
            keys.append(part)
            tables = [table for field in fields for table in _tables_in(field.annotation)]
        elif (is_last and keep_last) or (_is_name(part) and not _is_type(part)):
            keys.append(part)
    return tables, keys


def _lower(reason: str) -> str:
    return reason[0].lower() + reason[1:]


def _is_name(part: str) -> bool:
    return part.replace("_", "a").isidentifier()


def _is_type(part: str) -> bool:
    return part in {"int", "float", "str", "bool"}


def _known(key: str, tables: list[type[BaseModel]]) -> str:
    """Say which keys there are, and where the unknown one would be at home."""
    known = [name for table in tables for name, field in _fields(table).items() if not field.exclude]
    home = next((name for table in tables for name, inner in _inner(table) if key in _fields(inner)), "")
    nearest = f'"{key}" is a key of {home}; ' if home else did_you_mean(key, known)
    return f"{nearest}known keys: {', '.join(known)}"


def _fields(table: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a table's fields by their keys in the file."""
    return {field.alias or name: field for name, field in table.model_fields.items()}


def _inner(table: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in _fields(table).items():
        for inner in _tables_in(field.annotation):
            yield name, inner


def _tables_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the tables inside `Table`, `Table | None`, `tuple[Table, ...]` and unions of these."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        return _tables_in(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType, tuple, list}:
        return [table for member in get_args(annotation) for table in _tables_in(member)]
    return []


def _kind(table: type[BaseModel]) -> str | None:
    field = table.model_fields.get("kind")
    is_literal = field is not None and get_origin(field.annotation) is Literal
    return str(get_args(field.annotation)[0]) if field is not None and is_literal else None


def _kinds(tables: list[type[BaseModel]]) -> list[str]:
    return [kind for table in tables if (kind := _kind(table)) is not None]
