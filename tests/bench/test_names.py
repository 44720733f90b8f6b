"""A row's name is the shortest end of a path that tells it from the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.bench.names import distinct


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/x.onnx", "b/y.onnx"], ["x.onnx", "y.onnx"]),
        (["a/model.onnx", "b/model.onnx"], ["a/model.onnx", "b/model.onnx"]),
        (["A/m/model.onnx", "B/m/model.onnx"], ["A/m/model.onnx", "B/m/model.onnx"]),
        (["A/m/model.onnx", "A/n/model.onnx", "x.onnx"], ["m/model.onnx", "n/model.onnx", "x.onnx"]),
        (["/model.onnx", "/a/model.onnx"], ["/model.onnx", "a/model.onnx"]),
        (["a/model.onnx", "a/model.onnx"], ["model.onnx", "model.onnx (2)"]),
        (["a/model.onnx", "b/../a/model.onnx"], ["model.onnx", "model.onnx (2)"]),
    ],
)
def test_the_shortest_end_that_no_other_has(files: list[str], names: list[str]) -> None:
    assert distinct([Path(file) for file in files]) == names


PARTS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4)


@given(st.lists(PARTS, min_size=1, max_size=5))
def test_names_are_unique_and_ends_of_their_paths(paths: list[list[str]]) -> None:
    files = [Path("/", *parts) for parts in paths]
    names = distinct(files)
    assert len(set(names)) == len(files)
    for file, name in zip(files, names, strict=True):
        assert os.fspath(file).endswith(name.split(" (")[0])
