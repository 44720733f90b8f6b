"""Turn pydantic's complaint about a TOML file into one line and one hint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from edgekd.errors import did_you_mean, uncapitalised
from edgekd.expected import as_toml, describe

_LONGEST = 60
_UNQUOTED = frozenset({"int_type", "int_parsing", "float_type", "float_parsing", "bool_type", "bool_parsing"})
_TABLE = frozenset({"model_type", "model_attributes_type", "dict_type"})
Keys = tuple[str, ...]


def explain(
    error: ValidationError, model: type[BaseModel], where: str, overrides: Sequence[Keys] = ()
) -> tuple[str, str]:
    """Return (message, hint) for the first complaint: file, table, key, value, and what the key takes.

    `overrides` are the keys that came from --set: a complaint about one of them names that, not the file. A validator
    may give message and hint itself: `raise ValueError(reason, hint)`.
    """
    found = error.errors()
    # Where a table is misspelt, pydantic complains first that the right one is missing.
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    first = first if found[0]["type"] == "missing" else found[0]
    place = _walk(model, first["loc"], keep_last=first["type"] == "extra_forbidden")
    origin = _origin(where, place.keys, overrides)
    reason, hint = _reason(first, place)
    return f"{origin}: {reason}", hint or _hint(place)


def _origin(where: str, keys: Sequence[str], overrides: Sequence[Keys]) -> str:
    """Return what the user must look at: the file, --set, or both where a complaint is about several keys."""
    if any(tuple(keys[: len(path)]) == path for path in overrides):
        return "--set"
    both = any(path[: len(keys)] == tuple(keys) for path in overrides)
    return f"{where} with --set" if both and where != "--set" else where


@dataclass(frozen=True)
class _Place:
    """Where a complaint leads, in the user's words."""

    tables: list[type[BaseModel]]
    """That may stand there, or hold the key that is complained of."""
    keys: list[str]
    field: tuple[str, FieldInfo] | None
    """The last known key on the way."""

    @property
    def key(self) -> str:
        return ".".join(self.keys)


def _reason(complaint: Any, place: _Place) -> tuple[str, str]:
    """Return what is wrong, and a hint where the complaint has one of its own."""
    key, value = place.key, complaint["input"]
    match complaint["type"]:
        case "extra_forbidden":
            return _unknown(place, is_table=isinstance(value, dict))
        case "missing":
            return f"{key} is missing", ""
        case "union_tag_not_found" | "union_tag_invalid":
            return _wrong_kind(complaint, place)
        case "value_error":
            reason, *hint = complaint["ctx"]["error"].args
            return (f"{key}: {uncapitalised(reason)}" if key else reason), (hint[0] if hint else "")
        case "json_invalid":
            # Half of a surrogate pair, as an argument that is not UTF-8 becomes one.
            return "a value is not valid text", "write it in UTF-8"
        case kind:
            said = "must be a table" if kind in _TABLE else uncapitalised(complaint["msg"])
            unquoted = "numbers, true and false stand without quotes; "
            hint = unquoted + _hint(place) if kind in _UNQUOTED and isinstance(value, str) else ""
            return f"{key} = {_short(value)}: {said}", hint


def _wrong_kind(complaint: Any, place: _Place) -> tuple[str, str]:
    kind, kinds = complaint.get("ctx", {}).get("tag"), _kinds(place.tables)
    known = f"kinds: {', '.join(kinds)}"
    if kind is None:
        return f"{place.key}.kind is missing", known
    return f'{place.key}.kind: there is no "{kind}"', did_you_mean(kind, kinds) + known


def _short(value: object) -> str:
    text = as_toml(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _hint(place: _Place) -> str:
    """Say what the key takes; of a table, which keys it has."""
    if place.field is not None and not place.tables:
        return describe(*place.field)
    return f"known keys: {', '.join(_names(place.tables))}"


def _unknown(place: _Place, is_table: bool) -> tuple[str, str]:
    """Say that a key or table is unknown, which is near, and where the key would be at home."""
    *outer, key = place.keys
    home = next((name for table in place.tables for name, inner in _inner(table) if key in _fields(inner)), "")
    at_home = f'"{key}" is a key of {home}; ' if home else ""
    if is_table:
        tables = list(dict.fromkeys(name for table in place.tables for name, _ in _inner(table)))
        inside = f" in [{'.'.join(outer)}]" if outer else ""
        listed = f"tables: {', '.join(tables)}" if tables else f"known keys: {', '.join(_names(place.tables))}"
        return f'unknown table "{key}"{inside}', (at_home or did_you_mean(key, tables)) + listed
    inside = f"[{'.'.join(outer)}]" if outer else "the top level"
    known = _names(place.tables)
    return f'unknown key "{key}" in {inside}', f"{at_home or did_you_mean(key, known)}known keys: {', '.join(known)}"


def _names(tables: Sequence[type[BaseModel]]) -> list[str]:
    return list(dict.fromkeys(name for table in tables for name, field in _fields(table).items() if not field.exclude))


def _walk(model: type[BaseModel], location: Sequence[int | str], keep_last: bool) -> _Place:
    """Return where a location leads.

    A union puts its members' names into the location (`size.int`, `loss.0.kd`): those are not the user's.
    """
    tables = [model]
    keys: list[str] = []
    field: tuple[str, FieldInfo] | None = None
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
            field = part, fields[0]
            tables = [table for each in fields for table in _tables_in(each.annotation)]
        elif (is_last and keep_last) or (_is_name(part) and not _is_type(part)):
            keys.append(part)
    return _Place(tables, keys, field)


def _is_name(part: str) -> bool:
    return part.replace("_", "a").isidentifier()


def _is_type(part: str) -> bool:
    return part in {"int", "float", "str", "bool"}


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
