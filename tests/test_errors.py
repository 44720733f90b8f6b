"""Errors carry a message and a way out; the nearest word is offered only when one is near."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.errors import (
    DataError,
    EdgekdError,
    ModelError,
    RecipeError,
    TargetError,
    counted,
    did_you_mean,
    listed,
    printable,
)


def test_a_near_word_is_offered() -> None:
    assert did_you_mean("epoch", ["batch", "epochs", "lr"]) == 'did you mean "epochs"? '


@pytest.mark.parametrize("known", [[], ["batch", "lr"]])
def test_nothing_is_offered_when_no_word_is_near(known: list[str]) -> None:
    assert did_you_mean("temperature", known) == ""


def test_of_two_near_words_the_nearest_is_offered() -> None:
    assert did_you_mean("cpu-vnn", ["cpu", "cpu-vnni"]) == 'did you mean "cpu-vnni"? '


@pytest.mark.parametrize("kind", [RecipeError, TargetError, DataError, ModelError])
def test_each_kind_is_an_edgekd_error_with_message_and_hint(kind: type[EdgekdError]) -> None:
    error = kind("wrong", "mend it")
    assert isinstance(error, EdgekdError)
    assert (str(error), error.message, error.hint) == ("wrong", "wrong", "mend it")


def test_a_name_of_a_file_is_printed_on_one_line_and_as_utf8() -> None:
    name = os.fsdecode(b"caf\xe9\n\x1b[2Jb.png")
    assert printable(name) == r"caf\udce9\n\x1b[2Jb.png"
    assert printable("größe 写真.png") == "größe 写真.png"


@given(st.text(st.characters(exclude_categories=())))
def test_any_name_is_printed_on_one_line_and_as_utf8(name: str) -> None:
    shown = printable(name)
    assert shown.encode().decode() == shown
    assert len(shown.splitlines()) <= 1


def test_ten_names_are_listed_and_the_others_counted() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(number) for number in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


def test_one_is_counted_in_the_singular() -> None:
    assert [counted(count, "image") for count in (0, 1, 2)] == ["0 images", "1 image", "2 images"]


def test_a_name_that_an_error_quotes_cannot_drive_a_terminal() -> None:
    error = ModelError("the input \x1b[2J of net.onnx\nis no tensor", "rename \udcff")
    assert str(error) == error.message == "the input \\x1b[2J of net.onnx\nis no tensor"
    assert error.hint == "rename \\udcff"
