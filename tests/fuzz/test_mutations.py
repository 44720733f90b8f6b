"""Damage that reaches deep: checksums stay right, ONNX files still parse, and a seed gives the same bytes again."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import onnx
import pytest

from tests.fuzz import mutations, seeds
from tests.fuzz.campaign import damaged
from tests.fuzz.cases import KINDS


@pytest.mark.parametrize("kind", ["images", "npz", "onnx"])
def test_a_seed_gives_the_same_bytes_again_and_another_number_others(kind: str) -> None:
    case = KINDS[kind]
    once = [damaged(case, 7, number) for number in range(30)]
    assert once == [damaged(case, 7, number) for number in range(30)]
    assert len(set(once)) > 25


def test_chunks_of_a_damaged_png_have_right_checksums() -> None:
    content = seeds.images()["rgb.png"]
    for number in range(50):
        found = mutations.of_png(content, np.random.default_rng(number))
        at = 8
        while at < len(found):
            (length,) = struct.unpack_from(">I", found, at)
            body = found[at + 4 : at + 8 + length]
            assert struct.unpack_from(">I", found, at + 8 + length) == (zlib.crc32(body),)
            at += 12 + length


def test_arrays_that_are_damaged_inside_lie_in_a_whole_archive() -> None:
    for content in seeds.npz().values():
        for number in range(50):
            found = mutations.of_npz(content, np.random.default_rng(number))
            assert zipfile.ZipFile(io.BytesIO(found)).testzip() is None


def test_every_model_is_whole_before_and_parses_after_changes_of_all_kinds() -> None:
    changed: set[str] = set()
    for content in seeds.models().values():
        whole = onnx.load_model_from_string(content)
        onnx.checker.check_model(whole)
        for number in range(150):
            found = onnx.load_model_from_string(mutations.of_model(content, np.random.default_rng(number)))
            for one, other in zip((whole.graph, *whole.graph.node), (found.graph, *found.graph.node), strict=False):
                names = [field.name for field in one.DESCRIPTOR.fields]
                changed |= {name for name in names if getattr(one, name) != getattr(other, name)}
    assert {"input", "output", "op_type", "attribute", "initializer", "node", "domain"} <= changed
