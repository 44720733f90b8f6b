"""Integers all the way, or not: told from the operators that run."""

from __future__ import annotations

import pytest

from edgekd.operators import in_float, is_closed_integer

CLOSED = {"DequantizeLinear": 1, "QGemm": 1, "QLinearConv": 5, "QLinearGlobalAveragePool": 1, "Transpose": 1}


def test_one_conversion_at_the_end_is_closed() -> None:
    assert is_closed_integer(CLOSED)
    assert in_float(CLOSED) == {}


@pytest.mark.parametrize(
    "more",
    [{"Conv": 1}, {"QuantizeLinear": 1}, {"DequantizeLinear": 2}, {"DequantizeLinear": 0}, {"Softmax": 1}],
)
def test_a_float_operator_or_another_conversion_opens_it(more: dict[str, int]) -> None:
    assert not is_closed_integer({**CLOSED, **more})


def test_what_computes_in_float_is_listed_with_its_counts() -> None:
    assert in_float({"Conv": 3, "FusedConv": 1, "Reshape": 2, "QLinearConv": 4}) == {"Conv": 3, "FusedConv": 1}
