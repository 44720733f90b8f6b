"""Samples without a recipe: found, drawn by class, written some at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.errors import DataError
from edgekd.run import Run
from edgekd.workload.gather import pictures, write_pictures
from edgekd.workload.images import Framing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, count in (("b", 6), ("a", 3)):
        (tmp_path / label).mkdir()
        for number in range(count):
            Image.new("RGB", (9, 7), (number, 0, 0)).save(tmp_path / label / f"{number}.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_folders_are_classes_in_the_order_of_their_names(folder: Path) -> None:
    found = pictures(folder)
    assert found.classes == ("a", "b")
    assert found.labels is not None
    assert found.labels.tolist() == [0] * 3 + [1] * 6
    assert len(found.files) == 9


def test_images_without_folders_have_no_labels(folder: Path) -> None:
    found = pictures(folder / "b")
    assert (len(found.files), found.labels, found.classes) == (6, None, ())


def test_pictures_are_written_resized_with_their_labels(folder: Path, tmp_path: Path) -> None:
    write_pictures(pictures(folder), [(4, 5)], tmp_path / "out", Run())
    assert np.load(tmp_path / "out/images.npy").shape == (9, 4, 5, 3)
    assert np.load(tmp_path / "out/labels.npy").tolist() == [0] * 3 + [1] * 6


def test_an_empty_folder_and_a_broken_image_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        pictures(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read the image .*broken.png"):
        write_pictures(pictures(tmp_path), [(4, 4)], tmp_path / "out", Run())


def test_of_several_sizes_each_image_gets_one_and_each_class_all(folder: Path, tmp_path: Path) -> None:
    write_pictures(pictures(folder), [(4, 5), (6, 2)], tmp_path / "out", Run())
    first, second = np.load(tmp_path / "out/images.npy"), np.load(tmp_path / "out/images-1.npy")
    assert (first.shape, second.shape) == ((5, 4, 5, 3), (4, 6, 2, 3))
    # An image's red says its number; class a has three images, class b six.
    reds = [*first[:, 0, 0, 0].tolist(), *second[:, 0, 0, 0].tolist()]
    labels = np.load(tmp_path / "out/labels.npy").tolist()
    assert list(zip(labels, reds, strict=True)) == [
        (0, 0),
        (0, 2),
        (1, 1),
        (1, 3),
        (1, 5),
        (0, 1),
        (1, 0),
        (1, 2),
        (1, 4),
    ]


def test_images_are_written_in_the_channels_that_are_fed(folder: Path, tmp_path: Path) -> None:
    write_pictures(pictures(folder), [(7, 9)], tmp_path / "bgr", Run(), Framing("stretch", "bgr"))
    write_pictures(pictures(folder), [(7, 9)], tmp_path / "grey", Run(), Framing("stretch", "grey"))
    assert np.load(tmp_path / "bgr/images.npy")[:, 0, 0].tolist() == [
        [0, 0, red] for red in (0, 1, 2, 0, 1, 2, 3, 4, 5)
    ]
    assert np.load(tmp_path / "grey/images.npy").shape == (9, 7, 9, 1)


def test_images_in_folders_below_a_class_are_found_in_the_order_of_their_paths(folder: Path) -> None:
    for name in ("a/more/x.png", "a/.hidden/y.png"):
        (folder / name).parent.mkdir()
        Image.new("RGB", (9, 7)).save(folder / name)
    found = pictures(folder)
    names = [file.relative_to(folder).as_posix() for file in found.files]
    assert names == ["a/0.png", "a/1.png", "a/2.png", "a/more/x.png", *(f"b/{number}.png" for number in range(6))]
    assert found.labels is not None
    assert found.labels.tolist() == [0] * 4 + [1] * 6


def test_files_that_are_not_images_are_named(folder: Path) -> None:
    (folder / "Thumbs.db").touch()
    assert pictures(folder).not_images == ("Thumbs.db", "a/notes.txt")
    assert pictures(folder).take([0]).not_images == ("Thumbs.db", "a/notes.txt")


def test_images_beside_folders_of_images_are_an_error(folder: Path) -> None:
    """Dropping either without a word would calibrate on a part of what was given."""
    Image.new("RGB", (9, 7)).save(folder / "loose.png")
    with pytest.raises(DataError, match=r"holds images of its own \(loose.png\) beside folders of images \(a, b\)"):
        pictures(folder)


def test_classes_that_lie_one_folder_deeper_are_an_error_that_names_the_folder(folder: Path) -> None:
    (folder / "val").mkdir()
    for label in ("a", "b"):
        (folder / label).rename(folder / "val" / label)
    with pytest.raises(DataError, match="such as val/a: which are the classes is not clear") as caught:
        pictures(folder)
    assert f"--data {folder / 'val'}" in caught.value.hint
    assert pictures(folder / "val").classes == ("a", "b")
