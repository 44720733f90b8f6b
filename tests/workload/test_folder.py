"""An image folder becomes a dataset, or one line that names the folder or file that is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.errors import DataError
from edgekd.recipe import Data
from edgekd.run import Run
from edgekd.workload import folder
from edgekd.workload.dataset import Dataset


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
    assert (data.test.labels.tolist(), data.val, data.unreadable) == ([0, 1], None, 0)


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


def test_unreadable_images_are_left_out_and_counted_where_the_recipe_says_so(images: Path) -> None:
    for name in ("train/cat/1a.png", "train/dog/z.txt", "test/cat/0a.png"):
        (images / name).write_bytes(b"no image")
    data = read(images, config=Data(size=4, skip_unreadable=True))
    assert data.unreadable == 3
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 200, 201]
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 0, 0, 1, 1], [0, 1])
