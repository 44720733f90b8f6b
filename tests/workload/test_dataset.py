"""What a user's data function returns is looked at when it is made."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.errors import DataError
from edgekd.workload.dataset import Dataset, Split


def split(labels: list[int]) -> Split:
    return Split(np.zeros((len(labels), 2, 2, 3), np.uint8), np.array(labels, np.int64))


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 4, 4, 3), np.float32), np.zeros((2, 3, 4, 4), np.uint8), np.zeros((4, 4, 3), np.uint8)],
    ids=["float", "channels first", "one image"],
)
def test_images_of_another_kind_are_refused_with_their_shape(images: np.ndarray) -> None:
    with pytest.raises(DataError) as caught:
        Split(images, np.zeros(len(images), np.int64))
    assert caught.value.message == f"images are {images.dtype} {list(images.shape)}"


@pytest.mark.parametrize(
    "labels", [np.zeros(3, np.int64), np.zeros(2, np.float32), np.zeros((2, 1), np.int64)], ids=["more", "float", "2-d"]
)
def test_labels_are_one_integer_per_image(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match="2 images, labels"):
        Split(np.zeros((2, 4, 4, 3), np.uint8), labels)


def test_take_keeps_images_and_labels_together() -> None:
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1).repeat(3, axis=3)
    taken = Split(images, np.array([10, 11, 12, 13])).take(np.array([3, 1]))
    assert (taken.images[:, 0, 0, 0].tolist(), taken.labels.tolist()) == ([3, 1], [13, 11])


@pytest.mark.parametrize("where", ["train", "test", "val"])
def test_an_empty_split_is_refused(where: str) -> None:
    splits = {"train": split([0]), "test": split([0]), where: split([])}
    with pytest.raises(DataError, match="a split of the data is empty"):
        Dataset(**splits, classes=("a",))


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0]])
@pytest.mark.parametrize("where", ["train", "test", "val"])
def test_a_label_beyond_the_classes_is_refused_in_every_split(where: str, labels: list[int]) -> None:
    splits = {"train": split([0]), "test": split([1]), where: split(labels)}
    with pytest.raises(DataError, match=f"labels run from {labels[0]} to {labels[1]}, but there are 2 classes"):
        Dataset(**splits, classes=("a", "b"))


def test_names_go_with_their_images_and_there_are_none_or_all() -> None:
    images = np.zeros((3, 2, 2, 3), np.uint8)
    named = Split(images, np.arange(3), ("a.png", "b.png", "c.png"))
    assert named.take(np.array([2, 0])).names == ("c.png", "a.png")
    assert split([0, 1]).take(np.array([1])).names == ()
    with pytest.raises(DataError, match="3 images, 2 names"):
        Split(images, np.arange(3), ("a.png", "b.png"))


@pytest.mark.parametrize("name", ["a\nb", "a\r", "\u2029"])
def test_a_class_that_would_take_two_lines_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="line break"):
        Dataset(split([0]), split([1]), classes=("a", name))
