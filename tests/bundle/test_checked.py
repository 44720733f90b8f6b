"""A bundle is taken as it was written, byte by byte, or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd.bundle.checked import checked, is_bundle
from edgekd.errors import ModelError


@pytest.fixture
def bundle(arm64_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(arm64_bundle, tmp_path / "bundle"))


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def test_a_bundle_as_it_was_written_gives_its_manifest(bundle: Path) -> None:
    assert is_bundle(bundle)
    assert not is_bundle(bundle / "model.onnx")
    assert checked(bundle).target == "arm64"


@pytest.mark.parametrize("name", ["model.onnx", "labels.txt", "golden.npz", "report.json"])
@pytest.mark.parametrize("at", [0, -1])
def test_one_flipped_bit_is_seen_in_every_file(bundle: Path, name: str, at: int) -> None:
    flip(bundle / name, at)
    with pytest.raises(ModelError, match=f"{name} is not the file that was written"):
        checked(bundle)


def test_a_missing_file_and_one_too_many_are_named(bundle: Path) -> None:
    (bundle / "labels.txt").rename(bundle / "notes.txt")
    with pytest.raises(ModelError, match=r"lacks labels\.txt"):
        checked(bundle)
    shutil.copyfile(bundle / "notes.txt", bundle / "labels.txt")
    with pytest.raises(ModelError, match=r"holds notes\.txt, which its manifest\.json does not list"):
        checked(bundle)


def without_files(text: str) -> str:
    values = json.loads(text)
    del values["files"]
    return json.dumps(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-20], "Invalid JSON"),
        (lambda text: "", "Invalid JSON"),
        (lambda text: "[]", "object"),
        (without_files, "files: Field required"),
        (lambda text: text.replace('"name"', '"nahme"', 1), "name: Field required"),
    ],
)
def test_what_is_no_manifest_is_said_to_be_none(bundle: Path, change: Callable[[str], str], message: str) -> None:
    file = bundle / "manifest.json"
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ModelError, match="is not a bundle's manifest") as caught:
        checked(bundle)
    assert message in caught.value.message
