"""What `import edgekd` offers: names that are listed, found late and typed, and a build that takes what is at hand."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import edgekd
from edgekd import errors, pipeline, recipe, run, target

if TYPE_CHECKING:
    from conftest import ToyBuild

ROOT = Path(__file__).parent.parent


def test_dir_lists_what_is_public_and_each_is_found_at_home() -> None:
    assert set(dir(edgekd)) == {
        "Build", "Built", "Dataset", "EdgekdError", "Progress", "Recipe", "Report", "Run", "Split", "__version__",
        "build",
    }  # fmt: skip
    assert edgekd.EdgekdError is errors.EdgekdError
    assert (edgekd.Run, edgekd.Progress, edgekd.Recipe) == (run.Run, run.Progress, recipe.Recipe)
    assert (edgekd.build, edgekd.Build, edgekd.Built) == (pipeline.build, pipeline.Build, pipeline.Built)
    assert [name for name in dir(edgekd) if not hasattr(edgekd, name)] == []


def test_listing_and_catching_load_no_torch() -> None:
    code = (
        "import edgekd, sys; dir(edgekd); edgekd.EdgekdError; edgekd.Run; edgekd.Recipe; edgekd.Dataset;"
        "print(sorted({'torch', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'edgekd' has no attribute 'biuld'"):
        _ = edgekd.biuld  # type: ignore[attr-defined]


def test_the_version_is_the_one_that_is_packaged_and_the_command_prints_it() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    command = [sys.executable, "-m", "edgekd.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert edgekd.__version__ == declared
    assert (done.stdout, done.stderr, done.returncode) == (f"edgekd {declared}\n", "", 0)


def test_one_target_needs_no_list_and_overrides_are_those_of_the_command(toy: ToyBuild) -> None:
    """The override is a budget that is missed: nothing runs again, and the exit code is another."""
    lines: list[str] = []
    for one in ("arm64", target.load("arm64")):
        built = edgekd.build(
            str(toy.folder),
            targets=one,
            out=str(toy.folder / "public"),
            run=edgekd.Run(say=lines.append),
            overrides=["budget.max_size_kb=1"],
        )
        assert [bundle.folder for bundle in built.bundles] == [toy.folder / "public" / "toy-arm64"]
        assert built.exit_code == 3
    assert not [line for line in lines if " runs:" in line]


def test_overrides_of_a_recipe_that_is_read_already_are_refused(toy: ToyBuild) -> None:
    with pytest.raises(errors.RecipeError, match=r"read already: \"distill\.epochs=5\"") as caught:
        edgekd.build(recipe.load(toy.folder), overrides=["distill.epochs=5"])
    assert "edgekd.recipe.load" in caught.value.hint


def test_an_override_without_a_list_is_one_override(toy: ToyBuild) -> None:
    with pytest.raises(errors.RecipeError, match="epochz"):
        edgekd.build(toy.folder, overrides="distill.epochz=5")


def test_no_target_at_all_is_refused(toy: ToyBuild) -> None:
    with pytest.raises(errors.TargetError, match="no target is named"):
        edgekd.build(toy.folder, targets=())
