"""The README's recipes are recipes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from edgekd import recipe as recipes

README = Path(__file__).parent.parent / "README.md"


def blocks() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_whole_recipe_of_the_readme_is_valid_and_names_every_table() -> None:
    recipe = recipes.parse(tomllib.loads(blocks()[0]), "README.md", Path())
    assert recipe.model_fields_set >= {"data", "teacher", "student", "distill", "prune", "quantize", "budget"}


def test_the_losses_of_the_readme_fit_into_that_recipe() -> None:
    values = {**tomllib.loads(blocks()[0]), **tomllib.loads(blocks()[1])}
    distill = recipes.parse(values, "README.md", Path()).distill
    assert distill is not None
    assert [term.kind for term in distill.terms] == ["dkd", "attention"]
