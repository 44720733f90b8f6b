"""Files that a network's own code reads are part of its key, and none goes undeclared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd import chain, pipeline
from edgekd import recipe as recipes
from edgekd.errors import RecipeError
from edgekd.models import network
from edgekd.models.network import Plan
from edgekd.ref import resolve
from edgekd.run import Run
from edgekd.store import Store

MODULE = """
from pathlib import Path
from torch import nn

HERE = Path(__file__).parent

def make(scale: float = 1.0) -> nn.Module:
    text = (HERE / "widths.txt").read_text()
    return nn.Linear(2, int(text))

def writes() -> nn.Module:
    (HERE / "log.txt").write_text("made")
    return nn.Linear(2, 2)

def looks_elsewhere() -> nn.Module:
    Path(__import__("os").devnull).read_text()
    Path(__import__("torch").__file__).read_text()
    return nn.Linear(2, 2)

def hides() -> nn.Module:
    try:
        (HERE / "widths.txt").read_text()
    finally:
        raise ValueError("of its own")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(MODULE)
    (tmp_path / "widths.txt").write_text("3")
    return tmp_path


def built(folder: Path, name: str, files: tuple[str, ...] = ()) -> network.Network:
    return network.build(Plan(model=f"nets:{name}"), resolve(f"nets:{name}", folder, files, "student"))


@pytest.mark.parametrize("name", ["make", "hides"])
def test_an_undeclared_file_is_one_error_that_names_the_line_to_add(folder: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=r"the code of \[student\] reads widths.txt, which the recipe") as caught:
        built(folder, name)
    assert caught.value.hint == 'add to [student]: files = ["widths.txt"]'


def test_the_line_to_add_keeps_what_is_declared_already(folder: Path) -> None:
    (folder / "b.pt").write_text("")
    with pytest.raises(RecipeError) as caught:
        built(folder, "make", ("b.pt",))
    assert caught.value.hint == 'add to [student]: files = ["b.pt", "widths.txt"]'


def test_a_declared_file_is_read_and_its_content_is_in_the_key(folder: Path) -> None:
    assert built(folder, "make", ("widths.txt",)).module.out_features == 3
    before = resolve("nets:make", folder, ("widths.txt",), "student").content()
    (folder / "widths.txt").write_text("4")
    after = resolve("nets:make", folder, ("widths.txt",), "student").content()
    assert before["sources"]["nets"] == after["sources"]["nets"]
    assert before["sources"]["widths.txt"] != after["sources"]["widths.txt"]


@pytest.mark.parametrize("name", ["writes", "looks_elsewhere"])
def test_what_is_written_or_lies_elsewhere_needs_no_declaration(folder: Path, name: str) -> None:
    assert built(folder, name).module.out_features == 2


def test_a_file_that_a_module_reads_when_it_is_imported_is_noticed_too(folder: Path) -> None:
    (folder / "early.py").write_text(
        "from pathlib import Path\nTEXT = Path(__file__).with_name('widths.txt').read_text()\ndef make(): ...\n"
    )
    with pytest.raises(RecipeError, match=r"reads widths\.txt"):
        resolve("early:make", folder, (), "teacher")


def test_a_declared_file_that_is_not_there_is_an_error(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"student\.files: no file .*gone\.pt"):
        resolve("nets:make", folder, ("gone.pt",), "student")


def test_the_log_names_the_declared_file_that_changed(copy_toy: Callable[[], Path]) -> None:
    folder = copy_toy()
    lines: list[str] = []
    for text in ("1", "2"):
        (folder / "note.txt").write_text(text)
        request = pipeline._request(recipes.load(folder, ['student.files=["note.txt"]']), ["arm64"], None, None)
        store = Store(request.store, Run(say=lines.append))
        data = pipeline._prepare(store, request.project)
        chain._initialised(store, request.project, data, of_teacher=False, seed=0)
    assert lines[-1] == "initialise student runs: code.sources.note.txt changed"
