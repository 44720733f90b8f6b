"""The wheel holds the package, its targets and its example, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("build", reason="python -m build makes the wheel")
pytest.importorskip("hatchling", reason="the wheel's build backend")

ROOT = Path(__file__).parent.parent


USER = """
import numpy as np

import edgekd


def load() -> edgekd.Dataset:
    train = edgekd.Split(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, np.int64))
    return edgekd.Dataset(train, train, classes=("bolt", "nut"))


def show(progress: edgekd.Progress) -> None:
    print(progress.done / progress.total)


def main() -> int:
    try:
        run = edgekd.Run(say=print, show=show)
        built: edgekd.Build = edgekd.build("parts", targets="cpu", overrides=["distill.epochs=5"], run=run)
    except edgekd.EdgekdError as error:
        print(error.message.upper(), error.hint.upper())
        return 1
    report: edgekd.Report = built.bundles[0].report
    print(report.accuracy[-1].top1 + 1)
    edgekd.build("parts", targets=3)  # type: ignore[arg-type]
    return built.exit_code
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """A wheel built from the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.glob("edgekd-*-py3-none-any.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


@pytest.fixture(scope="module")
def names(wheel: zipfile.ZipFile) -> frozenset[str]:
    """The files of the wheel."""
    return frozenset(wheel.namelist())


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


def test_the_marker_of_a_typed_package_is_inside(names: frozenset[str]) -> None:
    assert "edgekd/py.typed" in names


@pytest.mark.slow
def test_a_users_module_type_checks_against_the_installed_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Strictly, and a wrong argument is an error: without py.typed every name would be Any, and nothing wrong."""
    pytest.importorskip("mypy", reason="the type checker")
    venv.create(tmp_path / "venv", with_pip=False)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    wheel.extractall(packages)
    # What edgekd needs is seen where it is installed, behind the wheel.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    (tmp_path / "user.py").write_text(USER, encoding="utf-8")
    interpreter = tmp_path / "venv" / "bin" / "python"
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(interpreter), "user.py"]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_licence_and_the_command_are_declared(names: frozenset[str]) -> None:
    endings = {name.partition(".dist-info/")[2] for name in names if ".dist-info/" in name}
    assert {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"} == endings


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "docs", "__pycache__", ".edgekd"])
def test_nothing_else_of_the_checkout_is_inside(names: frozenset[str], folder: str) -> None:
    assert not {name for name in names if folder in name.split("/")}
