"""The wheel holds the package, its targets and its example, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("build", reason="python -m build makes the wheel")
pytest.importorskip("hatchling", reason="the wheel's build backend")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[frozenset[str]]:
    """The files of a wheel built from the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("edgekd-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        yield frozenset(archive.namelist())


def test_the_top_of_the_wheel_is_the_package_and_its_metadata(names: frozenset[str]) -> None:
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgekd"}
    assert len(tops) == 2


def test_the_targets_are_inside_the_package(names: frozenset[str]) -> None:
    assert {name for name in names if name.startswith("edgekd/targets/")} == {
        f"edgekd/targets/{name}.toml" for name in ("arm64", "cpu", "cpu-vnni", "cuda")
    }


def test_every_module_and_the_built_in_recipe_are_inside(names: frozenset[str]) -> None:
    modules = {file.relative_to(ROOT).as_posix() for file in (ROOT / "edgekd").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert "edgekd/digits.toml" in names


def test_the_licence_and_the_command_are_declared(names: frozenset[str]) -> None:
    endings = {name.partition(".dist-info/")[2] for name in names if ".dist-info/" in name}
    assert {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"} == endings


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "docs", "__pycache__", ".edgekd"])
def test_nothing_else_of_the_checkout_is_inside(names: frozenset[str], folder: str) -> None:
    assert not {name for name in names if folder in name.split("/")}
