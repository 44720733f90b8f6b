"""An image folder becomes a dataset, or one line that names the folder or file that is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.errors import DataError
from edgekd.recipe import Data
from edgekd.run import Run
from edgekd.workload import folder
from edgekd.workload.dataset import Dataset, LeftOut


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three cats and two dogs to train on, one of each to test on; grey 0 is a cat's, grey 200 a dog's."""
    root = tmp_path / "images"
    for split, counts in (("train", {"cat": 3, "dog": 2}), ("test", {"cat": 1, "dog": 1})):
        for name, count in counts.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                grey = number + (0 if name == "cat" else 200)
                Image.new("L", (5, 4), grey).save(root / split / name / f"{number}.png")
    return root


def read(images: Path, val: Path | None = None, config: Data | None = None) -> Dataset:
    return folder.read(images, val, config or Data(size=(4, 5)), Run())


def refused(images: Path, val: Path | None = None, config: Data | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        read(images, val, config)
    return caught.value


def test_a_folder_is_read_in_the_order_of_its_names(images: Path) -> None:
    data = read(images)
    assert data.classes == ("cat", "dog")
    assert data.train.images.shape == (5, 4, 5, 3)
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 200, 201]
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert (data.test.labels.tolist(), data.val, data.left_out) == ([0, 1], None, LeftOut())


def test_labels_of_the_recipe_fix_the_order_of_the_classes(images: Path) -> None:
    data = read(images, config=Data(size=4, labels=("dog", "cat")))
    assert data.classes == ("dog", "cat")
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert data.train.images[0, 0, 0, 0] == 200


def test_a_folder_of_validation_images_is_read_too(images: Path) -> None:
    data = read(images, val=images / "test")
    assert data.val is not None
    assert np.array_equal(data.val.images, data.test.images)


def test_hidden_files_and_folders_are_no_images_and_no_classes(images: Path) -> None:
    (images / "train" / ".cache").mkdir()
    (images / "train" / "cat" / ".DS_Store").write_bytes(b"no image")
    assert len(read(images).train.labels) == 5


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path / "nowhere")
    assert error.message == f"no data folder {tmp_path / 'nowhere'}"


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_named(images: Path, split: str) -> None:
    (images / split).rename(images / "other")
    assert refused(images).message == f"no folder {images / split}"


def test_a_split_without_a_class_is_named(images: Path, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    assert refused(images, val=tmp_path / "val").message == f"{tmp_path / 'val'} holds no class folder"


def test_an_empty_class_is_named(images: Path) -> None:
    for file in (images / "test" / "dog").iterdir():
        file.unlink()
    assert refused(images).message == f"class folder {images / 'test' / 'dog'} has no image"


def test_a_class_that_only_train_has_is_named(images: Path) -> None:
    (images / "train" / "eel").mkdir()
    Image.new("L", (5, 4)).save(images / "train" / "eel" / "0.png")
    assert refused(images).message == f"class folder {images / 'test' / 'eel'} has no image"


def test_a_class_that_only_test_has_is_named_with_the_nearest(images: Path) -> None:
    (images / "test" / "cats").mkdir()
    error = refused(images)
    assert error.message == f'{images / "test"} has a class "cats" that train does not have'
    assert error.hint == 'did you mean "cat"? classes: cat, dog'


def test_a_class_that_the_labels_leave_out_is_named(images: Path) -> None:
    error = refused(images, config=Data(size=4, labels=("cat",)))
    assert error.message == f'{images / "train"} has a class "dog" that data.labels does not have'


def test_an_unreadable_image_is_named(images: Path) -> None:
    broken = images / "train" / "dog" / "broken.jpg"
    broken.write_bytes(b"no image")
    error = refused(images)
    assert error.message.startswith(f"cannot read the image {broken}: ")
    assert "data.skip_unreadable" in error.hint


def test_unreadable_images_are_left_out_and_named_where_the_recipe_says_so(images: Path) -> None:
    for name in ("train/cat/1a.png", "train/dog/z.jpg", "test/cat/0a.png"):
        (images / name).write_bytes(b"no image")
    data = read(images, config=Data(size=4, skip_unreadable=True))
    assert data.left_out.unreadable == ("train/cat/1a.png", "train/dog/z.jpg", "test/cat/0a.png")
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 200, 201]
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 0, 0, 1, 1], [0, 1])
    assert data.test.names == ("test/cat/0.png", "test/dog/0.png")


def test_a_class_of_which_no_image_can_be_read_is_named(images: Path) -> None:
    (images / "test/dog/0.png").write_bytes(b"no image")
    error = refused(images, config=Data(size=4, skip_unreadable=True))
    assert error.message == f"no image of the class folder {images / 'test' / 'dog'} can be read"


@pytest.mark.parametrize("skip", [True, False])
def test_files_that_are_not_images_by_their_names_are_named_and_not_unreadable(images: Path, skip: bool) -> None:
    for name in ("train/cat/notes.txt", "train/cat/Thumbs.db", "test/dog/desktop.ini", "train/dog/.DS_Store"):
        (images / name).write_bytes(b"no image")
    data = read(images, config=Data(size=4, skip_unreadable=skip))
    assert data.left_out == LeftOut(not_images=("train/cat/Thumbs.db", "train/cat/notes.txt", "test/dog/desktop.ini"))
    assert len(data.train.labels) == 5


def test_a_class_folder_without_an_image_by_name_says_how_images_are_named(images: Path) -> None:
    (images / "test/dog/0.png").rename(images / "test/dog/0.dat")
    error = refused(images)
    assert error.message == f"class folder {images / 'test' / 'dog'} has no image"
    assert ".jpeg, .jpg" in error.hint


def test_images_in_folders_below_a_class_are_read_in_the_order_of_their_paths(images: Path) -> None:
    for name, grey in (("train/cat/b/0.png", 11), ("train/cat/a/z/9.png", 10), ("train/cat/.old/0.png", 99)):
        (images / name).parent.mkdir(parents=True)
        Image.new("L", (5, 4), grey).save(images / name)
    data = read(images)
    assert data.train.names[:5] == tuple(f"train/cat/{name}.png" for name in ("0", "1", "2", "a/z/9", "b/0"))
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 200, 201]
    assert data.train.labels.tolist() == [0] * 5 + [1] * 2


def test_a_class_whose_images_all_lie_deeper_has_images(images: Path) -> None:
    (images / "train/dog").rename(images / "train/all")
    (images / "train/dog").mkdir()
    (images / "train/all").rename(images / "train/dog/all")
    assert read(images).train.labels.tolist() == [0, 0, 0, 1, 1]


def test_images_beside_the_class_folders_are_named(images: Path) -> None:
    Image.new("L", (5, 4)).save(images / "train" / "overview.png")
    (images / "train" / "labels.csv").write_text("no image")
    data = read(images)
    assert data.left_out == LeftOut(in_no_class=("train/overview.png",))
    assert len(data.train.labels) == 5


@pytest.mark.parametrize(
    "name", ["cat\nfish", "tab\tby", "bell\x07", "two\u2028lines", "next\x85line", os.fsdecode(b"caf\xe9")]
)
def test_a_class_folder_that_cannot_be_a_line_of_labels_is_named_before_any_work(images: Path, name: str) -> None:
    (images / "train" / name).mkdir()
    with pytest.raises(DataError) as caught:
        folder.check(images, None, Data(size=4))
    assert caught.value.message.startswith(f"the class folder {images / 'train'}/")
    assert caught.value.message.isprintable()
    assert "labels.txt has one class a line" in caught.value.hint


@pytest.mark.parametrize("label", ["cat\ndog", "cat\r", "", ".", "..", "cat/../dog", "/tmp", ".cat"])
def test_a_label_that_is_not_the_name_of_a_class_folder_is_refused_before_any_work(images: Path, label: str) -> None:
    with pytest.raises(DataError, match=r"^data\.labels: "):
        folder.check(images, None, Data(size=4, labels=("cat", label)))


def test_names_of_images_that_are_not_utf8_are_read_and_can_be_printed(images: Path) -> None:
    Image.new("L", (5, 4), 7).save(images / "train/cat" / os.fsdecode(b"3\xff.png"))
    (images / "train/cat" / os.fsdecode(b"4\xfe\n.png")).write_bytes(b"no image")
    data = read(images, config=Data(size=4, skip_unreadable=True))
    assert data.train.names[3] == "train/cat/3\\udcff.png"
    assert data.left_out.unreadable == ("train/cat/4\\udcfe\\n.png",)
    error = refused(images)
    assert error.message.encode().isascii() or error.message.isprintable()
    assert "4\\udcfe\\n.png" in error.message
