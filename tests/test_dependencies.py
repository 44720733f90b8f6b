"""What the code imports is what pyproject.toml declares, so that the declared minimum versions mean something."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
BUILDS_OF_ONNXRUNTIME = {"onnxruntime-gpu": "onnxruntime"}
IN_A_CHILD = {"onnxsim"}
"""Imported by a program that the package runs, not by the package."""
UNUSED_BY_NAME = {"pytest-xdist", "build", "hatchling"}
"""Plugins and tools, which run without being imported."""


def named(requirements: list[str]) -> dict[str, str]:
    """The distributions that are required, in their normal form, with their version specifiers."""
    found = {}
    for requirement in requirements:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?(.*)", requirement)
        assert match is not None, requirement
        name = normal(match[1])
        found[BUILDS_OF_ONNXRUNTIME.get(name, name)] = match[2]
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folder: Path) -> set[str]:
    """The distributions whose top-level modules the files of a folder import, at the top or inside functions."""
    homes = importlib.metadata.packages_distributions()
    own = {path.stem for path in folder.rglob("*")} | {"edgekd", "tests"}
    tops = {top for file in folder.rglob("*.py") for top in top_level(ast.parse(file.read_text(encoding="utf-8")))}
    foreign = tops - own - set(sys.stdlib_module_names)
    assert foreign <= homes.keys(), "not installed"
    return {BUILDS_OF_ONNXRUNTIME.get(normal(name), normal(name)) for top in foreign for name in homes[top]}


def top_level(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).partition(".")[0]


def declared(*extras: str) -> set[str]:
    lists = [PROJECT["project"]["dependencies"], *(EXTRAS[extra] for extra in extras)]
    return {name for requirements in lists for name in named(requirements)}


def test_the_package_imports_what_is_declared_and_nothing_else() -> None:
    assert imported(ROOT / "edgekd") | IN_A_CHILD == declared("cpu")


def test_the_tests_import_what_is_declared_for_them() -> None:
    assert imported(ROOT / "tests") <= declared("cpu", "test")
    assert declared("test") - declared() - imported(ROOT / "tests") == UNUSED_BY_NAME


@pytest.mark.parametrize("extra", ["cpu", "gpu", "test", ""])
def test_every_dependency_has_a_minimum_and_no_maximum(extra: str) -> None:
    """A minimum is what CI installs; a maximum would keep others from updating."""
    required = named(EXTRAS[extra] if extra else PROJECT["project"]["dependencies"])
    assert {name: floor for name, floor in required.items() if not re.fullmatch(r">=[0-9.]+", floor)} == {}


def test_both_builds_of_onnxruntime_and_both_uses_of_hatchling_have_one_minimum() -> None:
    assert named(EXTRAS["cpu"]) == named(EXTRAS["gpu"])
    assert named(PROJECT["build-system"]["requires"])["hatchling"] == named(EXTRAS["test"])["hatchling"]
