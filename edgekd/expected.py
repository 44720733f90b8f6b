"""What a key of a TOML file takes, in words: its range, its default, an example, and what it is for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

_NUMBERS = {int: "a whole number", float: "a number"}
_TRIED = (0.5, 1, 2, 10, 100, 0)


def describe(name: str, field: FieldInfo) -> str:
    """Return one line about a key: what it takes, an example (the default where there is one), its meaning."""
    words, made_up = _takes(field.annotation, field.metadata)
    default = field.default
    if field.examples:
        shown = f"; for example {name} = {as_toml(field.examples[0])}"
    elif isinstance(default, bool | int | float | str | tuple) and default not in {"", ()}:
        shown = f"; by default {name} = {as_toml(default)}"
    else:
        shown = f"; for example {name} = {made_up}" if made_up else ""
    meaning = " ".join((field.description or "").split())
    return f"{name} takes {words}{shown}{f'. {meaning}' if meaning else ''}"


def as_toml(value: Any) -> str:
    """Return a plain value as a TOML file spells it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(as_toml(item) for item in value)}]"
    # JSON has its own words for infinity and for what is not a number.
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)


def _takes(annotation: Any, metadata: list[Any]) -> tuple[str, str]:
    """Return what a type takes, in words, and an example of it as TOML, or nothing."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _takes(arguments[0], [*metadata, *_flat(arguments[1:])])
    if origin in {Union, UnionType}:
        members = [_takes(member, metadata) for member in arguments if member is not NoneType]
        return ", or ".join(dict.fromkeys(words for words, _ in members)), members[0][1]
    if origin is Literal:
        values = [as_toml(value) for value in arguments]
        return f"{'one of ' if len(values) > 1 else ''}{', '.join(values)}", values[0]
    if origin is tuple:
        count = 0 if arguments[-1] is Ellipsis else len(arguments)
        words, example = _takes(arguments[0], [])
        return f"a list [ ]{f' of {count}' if count else ''}, each {words}", f"[{', '.join([example] * (count or 1))}]"
    return _plain(annotation, metadata)


def _plain(annotation: Any, metadata: list[Any]) -> tuple[str, str]:
    if annotation is bool:
        return "true or false, without quotes", "true"
    if annotation in _NUMBERS:
        inside = (each for each in _TRIED if _holds(each, metadata) and (annotation is float or each == int(each)))
        return f"{_NUMBERS[annotation]}{_range(metadata)}", as_toml(next(inside, 1))
    if annotation is str:
        pattern = next((found for each in metadata if (found := getattr(each, "pattern", None))), "")
        return f"text in quotes{f' that matches {pattern}' if pattern else ''}", '"…"'
    return "a table { key = value }", ""


def _flat(given: Iterable[Any]) -> list[Any]:
    """Return constraints, out of the fields that hold them inside a union."""
    return [item for each in given for item in (each.metadata if isinstance(each, FieldInfo) else [each])]


def _range(metadata: list[Any]) -> str:
    bounds = {
        name: getattr(each, name) for each in metadata for name in ("gt", "ge", "lt", "le") if hasattr(each, name)
    }
    if "ge" in bounds and "le" in bounds:
        return f" from {bounds['ge']} to {bounds['le']}"
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    return "".join(
        f"{' and' if number else ''} {words[name]} {bound}" for number, (name, bound) in enumerate(bounds.items())
    )


def _holds(value: float, metadata: list[Any]) -> bool:
    return all(
        not (
            (hasattr(each, "gt") and not value > each.gt)
            or (hasattr(each, "ge") and not value >= each.ge)
            or (hasattr(each, "lt") and not value < each.lt)
            or (hasattr(each, "le") and not value <= each.le)
        )
        for each in metadata
    )
