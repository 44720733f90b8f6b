"""Nodes are found by the names of the file as it came, also where several became one."""

from __future__ import annotations

import pytest

from edgekd.errors import ModelError
from edgekd.quantize import origins
from tests.quantize.graphs import graph, node


def marked():  # type: ignore[no-untyped-def]
    model = graph([node("Relu", ["x"], "a"), node("Relu", ["a"], "b"), node("Relu", ["b"], "y")], {})
    origins.mark(model)
    return model


def test_a_node_that_stands_for_two_is_found_by_either_name_and_by_a_glob() -> None:
    model = marked()
    first, second = model.graph.node[:2]
    origins.merge(first, second)
    origins.merge(first, second)
    assert origins.of(first) == ("relu_a", "relu_b")
    del model.graph.node[1]
    assert origins.matching(model, ["relu_b"]) == ("relu_a",)
    assert origins.matching(model, ["relu_[by]"]) == ("relu_a", "relu_y")
    assert origins.matching(model, []) == ()


def test_a_name_with_brackets_is_a_name_before_it_is_a_glob() -> None:
    model = graph([node("Relu", ["x"], "y")], {})
    model.graph.node[0].name = "m[0]/relu"
    assert origins.matching(model, ["m[0]/relu"]) == ("m[0]/relu",)


def test_names_are_remembered_once() -> None:
    model = marked()
    model.graph.node[0].name = "renamed"
    origins.mark(model)
    assert origins.of(model.graph.node[0]) == ("relu_a",)


def test_a_pattern_that_matches_nothing_is_an_error_that_names_a_near_one() -> None:
    with pytest.raises(ModelError) as caught:
        origins.matching(marked(), ["relu_b", "relu_q"])
    assert 'no node is named "relu_q"' in caught.value.message
    assert "relu_" in caught.value.hint
