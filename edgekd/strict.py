"""Turn pydantic's complaint about a TOML file into one line and one hint."""

from __future__ import annotations

import json
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from edgekd.errors import did_you_mean


def explain(error: ValidationError, model: type[BaseModel], where: str) -> tuple[str, str]:
    """Return (message, hint) for the first complaint: file, table, key, value, and the nearest key when one is near."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    # A union of types puts its members' names into the location ("size.int"): not the user's words.
    keys = [part for part in path[:-1] if _is_key(part)]
    keys += path[-1:] if first["type"] == "extra_forbidden" or _is_key(path[-1] if path else "1") else []
    key = ".".join(keys) or "the file"
    if first["type"] == "extra_forbidden":
        known = _keys_of(model, keys[:-1])
        table = f"[{'.'.join(keys[:-1])}]" if keys[:-1] else "the top level"
        return f'{where}: unknown key "{keys[-1]}" in {table}', (
            f"{did_you_mean(keys[-1], known)}known keys: {', '.join(known)}"
        )
    if first["type"] == "missing":
        return f"{where}: {key} is missing", "see the README for what each key means"
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[0].lower() + reason[1:]
    if first["type"] == "value_error":
        return f"{where}: {key}: {reason}", "see the README for what each key means"
    return f"{where}: {key} = {json.dumps(first['input'], default=str)}: {reason}", (
        "see the README for what each key means"
    )


def _is_key(part: str) -> bool:
    return (part.replace("_", "a").isidentifier() and part not in {"int", "float", "str", "bool"}) or part.isdigit()


def _keys_of(model: type[BaseModel], path: list[str]) -> list[str]:
    """Return the keys of the table at this path."""
    for key in path:
        field = model.model_fields.get(key)
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return [name for name, field in model.model_fields.items() if not field.exclude]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside `Model`, or inside `Model | None`."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    for member in members:
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
    return None
