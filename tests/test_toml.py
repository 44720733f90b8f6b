"""A file that is not TOML is one line that quotes what is wrong, and a hint."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.errors import RecipeError
from edgekd.toml import is_too_deep, read, value_of

FORM = "a line is `key = value` or `[table]`; text stands in quotes; true and false are in small letters"
ESCAPE = 'in "…" a backslash begins an escape: write paths as \'C:\\data\' in single quotes, or as "C:/data"'
UTF8 = "save it as UTF-8, which is what TOML is written in"
DEEP = "a file may nest them 32 deep; no key needs more than 5"


def refused(folder: Path, content: bytes) -> tuple[str, str]:
    (folder / "f.toml").write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        read(folder / "f.toml", "f.toml", RecipeError)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b'[data]\npath = "C:\\Users\\me"\n', 'line 2: invalid hex value: path = "C:\\Users\\me"', ESCAPE),
        (b"[data]\npath = resnet18\nsize = 3\n", "line 2: invalid value: path = resnet18", FORM),
        (b"a = 1\n\na\n\n\n", "line 3: expected '=' after a key in a key/value pair: a", FORM),
        (b"[a]\nb = 1\n[a]\n", "line 3: cannot declare ('a',) twice: [a]", FORM),
        (b"a = 1\nb = '''x\n\n", "line 2: expected \"'''\": b = '''x", FORM),
        ("a = 1\nb = 'n\xfcss'\n".encode("latin-1"), "line 2: the byte 0xfc is not UTF-8: b = 'n\ufffdss'", UTF8),
        ("a = 1".encode("utf-16"), "the file is UTF-16", UTF8),
        (b"a = 1\nb = " + 600 * b"[" + 600 * b"]", "line 2: arrays or tables lie too deep inside one another: b", DEEP),
        (b"a = 1\nb = " + 40 * b"[" + 40 * b"]", "line 2: arrays or tables lie too deep inside one another: b", DEEP),
        (b"a = 1\nb" + 600 * b".b" + b" = 1", "line 2: arrays or tables lie too deep inside one another: b", DEEP),
        (b"a = 1\nb = " + 5000 * b"9", "line 2: a number of more than 4300 digits: b = 99", "whole numbers have"),
    ],
)
def test_what_is_not_toml_quotes_the_line(tmp_path: Path, content: bytes, message: str, hint: str) -> None:
    said, help_ = refused(tmp_path, content)
    assert said.startswith(f"f.toml: {message}")
    assert help_.startswith(hint)


def test_a_long_line_is_quoted_around_its_mistake(tmp_path: Path) -> None:
    message, _ = refused(tmp_path, b"a = [" + 200 * b"1, " + b"x, " + 200 * b"2, " + b"]\n")
    assert "1, x, 2" in message
    assert len(message) < 150


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_bytes(b"\xef\xbb\xbf[data]\r\nsize = 8\r\n")
    assert read(tmp_path / "f.toml", "f.toml", RecipeError) == {"data": {"size": 8}}


@given(st.integers(0, 60), st.sampled_from(["list", "table"]))
def test_depth_is_counted_in_arrays_and_tables_alike(depth: int, kind: str) -> None:
    value: object = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    assert is_too_deep({"value": value}) == (depth >= 32)


@pytest.mark.parametrize("text", ["1", "1.5", "[1, 2]", "true", "'a'", '"a"', "{ a = 1 }"])
def test_a_value_is_what_toml_makes_of_it(text: str) -> None:
    assert value_of(text) == tomllib.loads(f"value = {text}")["value"]


@pytest.mark.parametrize("text", ["C:\\Users", "word", "a=b", "", "1\nother = 2", "[half"])
def test_what_is_not_toml_is_text(text: str) -> None:
    assert value_of(text) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"C:\\Users"', "invalid hex value"),
        ('"half', "unterminated string"),
        ("9" * 5000, "a number has too many digits"),
        ("[" * 2000 + "]" * 2000, "arrays or tables lie too deep inside one another"),
    ],
)
def test_text_that_begins_as_a_toml_value_and_breaks_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        value_of(text)
    assert caught.value.args[1]
