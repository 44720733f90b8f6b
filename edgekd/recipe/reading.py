"""From an edgekd.toml and overrides to a checked recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgekd.errors import RecipeError
from edgekd.recipe.tables import Alone, Recipe
from edgekd.strict import explain
from edgekd.toml import is_too_deep, read, value_of

FILE_NAME = "edgekd.toml"
_SMALLEST = 'data.path = "images" and teacher.model = "mynet:make", which is make() in mynet.py'


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file or the one inside a folder; `overrides` are `table.key=value` with TOML values.

    Raises RecipeError naming file, key and value.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        values = read(file, str(file), RecipeError)
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {file}", f"name an {FILE_NAME}, or a folder that holds one") from None
    except OSError as error:
        raise RecipeError(f"{file}: {error.strerror}", f"name an {FILE_NAME}, or a folder that holds one") from None
    values.setdefault("name", file_name(file.resolve().parent.name))
    return parse(values, str(file), file.resolve().parent, overrides)


def file_name(words: str) -> str:
    """Return words as a name that is safe in paths."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-.") or "edgekd"


def digits(overrides: Sequence[str] = ()) -> Recipe:
    """Return the built-in example; its store lies in the current folder."""
    file = Path(__file__).parent.with_name("digits.toml")
    return parse(read(file, file.name, RecipeError), "digits", Path.cwd(), overrides)


def alone(given: Mapping[str, Any], overrides: Sequence[str] = ()) -> Alone:
    """Return the settings of `edgekd quantize`: `given` keys of [quantize], then overrides. Raises RecipeError."""
    merged: dict[str, Any] = {"quantize": dict(given)}
    for override in overrides:
        _override(merged, override)
    try:
        return Alone.model_validate_json(json.dumps(merged, default=str))
    except ValidationError as error:
        raise RecipeError(*explain(error, Alone, "--set")) from None


def parse(values: Mapping[str, Any], where: str, folder: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Make a recipe out of TOML values. Raises RecipeError."""
    merged = json.loads(json.dumps(values, default=str))
    given = [_override(merged, override) for override in overrides]
    if "folder" in merged:
        raise RecipeError(f'{where}: unknown key "folder"', "paths are relative to the recipe's own folder")
    if not set(merged) - {"name"}:
        raise RecipeError(f"{where}: the recipe is empty", f"the smallest recipe is two lines: {_SMALLEST}")
    try:
        # JSON mode: TOML has lists only, and strictness there still takes a list for a tuple.
        recipe = Recipe.model_validate_json(json.dumps(merged, default=str))
    except ValidationError as error:
        raise RecipeError(*explain(error, Recipe, where, given)) from None
    return recipe.model_copy(update={"folder": folder})


def _override(values: dict[str, Any], override: str) -> tuple[str, ...]:
    """Set one `table.key=value` and return its keys; the value is TOML, a bare word is a string."""
    path, equals, text = override.partition("=")
    keys = tuple(path.strip().split("."))
    if not equals or not all(keys):
        hint = "for instance --set distill.epochs=5"
        raise RecipeError(f'--set "{override}" is not of the form table.key=value', hint)
    table = values
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise RecipeError(
                f'--set "{override}": {key} is a value, not a table', f"--set {key}=… sets the value itself"
            )
    try:
        table[keys[-1]] = value_of(text)
    except ValueError as error:
        reason, hint = error.args
        raise RecipeError(f'--set "{override}": {reason}', hint) from None
    if is_too_deep(values):
        raise RecipeError(f'--set "{override}": tables lie too deep inside one another', "no key needs more than 5")
    return keys
