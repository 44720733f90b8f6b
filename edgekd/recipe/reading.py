"""From an edgekd.toml and overrides to a checked recipe."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgekd.errors import RecipeError
from edgekd.recipe.tables import Alone, Recipe
from edgekd.strict import explain

FILE_NAME = "edgekd.toml"


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file or the one inside a folder; `overrides` are `table.key=value` with TOML values.

    Raises RecipeError naming file, key and value.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {file}", f"name an {FILE_NAME}, or a folder that holds one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file}: not a TOML file: {error}", "see the recipe in the README, key by key") from None
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
    values = tomllib.loads(file.read_text(encoding="utf-8"))
    return parse(values, "digits", Path.cwd(), overrides)


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
    for override in overrides:
        _override(merged, override)
    if "folder" in merged:
        raise RecipeError(f'{where}: unknown key "folder"', "paths are relative to the recipe's own folder")
    try:
        # JSON mode: TOML has lists only, and strictness there still takes a list for a tuple.
        recipe = Recipe.model_validate_json(json.dumps(merged, default=str))
    except ValidationError as error:
        raise RecipeError(*explain(error, Recipe, where)) from None
    return recipe.model_copy(update={"folder": folder})


def _override(values: dict[str, Any], override: str) -> None:
    """Set one `table.key=value`; the value is TOML, a bare word is a string."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        hint = "for instance --set distill.epochs=5"
        raise RecipeError(f'--set "{override}" is not of the form table.key=value', hint)
    table = values
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise RecipeError(f'--set "{override}": {key} is a value, not a table', "see the recipe in the README")
    try:
        table[keys[-1]] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[keys[-1]] = text
