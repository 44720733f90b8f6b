"""Errors carry a message and a way out; the nearest word is offered only when one is near."""

from __future__ import annotations

import pytest

from edgekd.errors import DataError, EdgekdError, ModelError, RecipeError, TargetError, did_you_mean


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
