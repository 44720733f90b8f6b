"""The README's recipes are recipes."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path
from typing import get_args

import edgekd
from edgekd import recipe as recipes
from edgekd.recipe import Loss

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


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


def table_below(head: str) -> list[list[str]]:
    """The rows of the table whose head begins so, a cell a string."""
    lines = README.read_text(encoding="utf-8").split(f"| {head} |")[1].splitlines()[2:]
    rows = lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_table_of_kinds_names_every_loss_and_the_defaults_of_its_keys() -> None:
    kinds = {kind.model_fields["kind"].default: kind for kind in get_args(get_args(Loss)[0])}
    rows = {row[0].strip("`"): row[2] for row in table_below("kind")}
    assert rows.keys() == kinds.keys()
    for name, keys in rows.items():
        fields = kinds[name].model_fields
        for key, value in re.findall(r"`(\w+)` ([\w.]+)", keys):
            assert json.loads(value) == fields[key].default, (name, key)
        own = set(fields) - {"kind", "weight", "standardize", "teacher", "student"}
        assert own == set(re.findall(r"`(\w+)`", keys)) - {"weight"}, name


def test_the_table_of_losses_holds_the_figures_of_the_benchmark() -> None:
    measured = json.loads((ROOT / "benchmarks/results/distill-losses.json").read_text(encoding="utf-8"))["losses"]
    found = sorted(tuple(row[1:4]) for row in table_below("losses beside the labels"))
    wanted = [
        (
            f"{100 * row['mean']:.2f} %",
            f"{100 * row['deviation']:.2f}",
            shown(row["p"]["labels alone"]) if "p" in row else "",
        )
        for row in measured.values()
    ]
    assert found == sorted(wanted)


def shown(p: float) -> str:
    """A p value with two significant digits, and no more than the fourth decimal."""
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 1e-3 else f"{p:.2g}"


def test_every_name_of_edgekd_in_the_readme_is_public() -> None:
    """In its Python, and in its words between backticks."""
    text = README.read_text(encoding="utf-8")
    python = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    nodes = [node for block in python for node in ast.walk(ast.parse(block))]
    used = {each.attr for each in nodes if isinstance(each, ast.Attribute) and ast.unparse(each.value) == "edgekd"}
    used |= {
        name.name
        for each in nodes
        if isinstance(each, ast.ImportFrom) and each.module == "edgekd"
        for name in each.names
    }
    words = set(re.findall(r"`edgekd\.([A-Z]\w*|build)\b", text))
    assert {"build", "EdgekdError", "Run", "Dataset", "Split"} <= used
    assert {"Run", "Recipe", "Progress", "Report", "Dataset", "build"} <= words
    assert used | words <= set(dir(edgekd))
