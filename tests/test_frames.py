"""Of an exception, the last line of the user's own code is shown, and no other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from edgekd.frames import place, said
from edgekd.ref import resolve

CODE = """
import json

def deep():
    return json.loads("{")

def top():
    return deep()

def loud():
    raise ValueError("a\\nb" + "c" * 1000)

def leave():
    raise SystemExit

def silent():
    raise KeyError
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[ModuleType]:
    (tmp_path / "frames_code.py").write_text(CODE, encoding="utf-8")
    before, path = set(sys.modules), list(sys.path)
    yield sys.modules[resolve("frames_code:top", tmp_path).load().__module__]
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def raised(module: ModuleType, name: str) -> BaseException:
    with pytest.raises(BaseException) as caught:
        getattr(module, name)()
    return caught.value


def test_the_last_frame_below_the_folder_is_shown_and_no_librarys(module: ModuleType, tmp_path: Path) -> None:
    error = raised(module, "top")
    assert isinstance(error, json.JSONDecodeError)
    assert place(error, tmp_path) == ' (frames_code.py, line 5: return json.loads("{"))'


def test_of_code_elsewhere_nothing_is_shown(module: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert place(raised(module, "top"), tmp_path / "other") == ""


def test_installed_code_below_the_folder_is_not_the_users(tmp_path: Path) -> None:
    """A virtual environment inside the recipe's folder."""
    code = compile("\nraise ValueError('x')", str(tmp_path / "venv/lib/site-packages/lib.py"), "exec")
    with pytest.raises(ValueError) as caught:
        exec(code)
    assert place(caught.value, tmp_path) == ""


def test_a_message_of_many_lines_becomes_one_of_a_bounded_length(module: ModuleType, tmp_path: Path) -> None:
    text = said(raised(module, "loud"), tmp_path)
    assert text.startswith("ValueError: a bccc")
    assert "\n" not in text
    assert len(text) < 420


@pytest.mark.parametrize(
    ("name", "start"),
    [("leave", "it calls sys.exit() (frames_code.py, line 14"), ("silent", "KeyError (frames_code.py")],
)
def test_an_exception_without_words_is_told_by_its_kind(
    module: ModuleType, tmp_path: Path, name: str, start: str
) -> None:
    assert said(raised(module, name), tmp_path).startswith(start)
