"""The stage `prepare`: four splits on disk, and test images in none of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.errors import DataError
from edgekd.recipe import Data
from edgekd.run import Run
from edgekd.workload import arrays
from edgekd.workload.dataset import Dataset, LeftOut, Split
from edgekd.workload.stage import prepare

CLASSES = ("a", "b")


def numbered(first: int, count: int, side: int = 4) -> Split:
    """Images whose pixels are their number, of two classes in turn."""
    images = np.arange(first, first + count, dtype=np.uint8).reshape(count, 1, 1, 1)
    labels = np.arange(count, dtype=np.int64) % 2
    return Split(np.broadcast_to(images, (count, side, side, 3)).copy(), labels)


@dataclass(frozen=True)
class Code:
    """Stands for a reference to a user's data function."""

    returned: Any
    spec: str = "mine:data"

    def load(self) -> Callable[[], Any]:
        return lambda: self.returned


@dataclass(frozen=True)
class Prepared:
    metrics: dict[str, Any]
    lines: list[str]
    splits: dict[str, Split]

    def numbers(self, split: str) -> list[int]:
        return [int(number) for number in self.splits[split].images[:, 0, 0, 0]]


def prepared(out: Path, source: Any, calibration: int = 8, config: Data | None = None) -> Prepared:
    lines: list[str] = []
    metrics = prepare.function(
        out,
        Run(say=lines.append),
        source=source,
        val=None,
        config=config or Data(size=4, val_fraction=0.25),
        calibration=calibration,
    )
    names = ("train", "val", "test", "calibration")
    return Prepared(metrics, lines, {name: arrays.load(out / name) for name in names})


def dataset(**kwargs: Any) -> Dataset:
    return Dataset(**{"train": numbered(0, 40), "test": numbered(100, 10), "classes": CLASSES, **kwargs})


def test_four_splits_are_written_and_counted(tmp_path: Path) -> None:
    found = prepared(tmp_path, Code(dataset()))
    assert found.metrics == {
        "classes": ["a", "b"],
        "images": {"train": 30, "val": 10, "test": 10, "calibration": 8},
        "test_images_in_train": 0,
        "unreadable": 0,
        "val_from_train": True,
        "files": {"unreadable": (), "not_images": (), "in_no_class": (), "test_images_in_train": []},
    }
    assert {name: split.images.shape for name, split in found.splits.items()} == {
        "train": (30, 4, 4, 3),
        "val": (10, 4, 4, 3),
        "test": (10, 4, 4, 3),
        "calibration": (8, 4, 4, 3),
    }
    assert found.lines == []


def test_calibration_comes_out_of_train_only_and_is_stratified(tmp_path: Path) -> None:
    found = prepared(tmp_path, Code(dataset()))
    assert set(found.numbers("calibration")) <= set(found.numbers("train"))
    assert not set(found.numbers("calibration")) & {*found.numbers("val"), *found.numbers("test")}
    assert np.bincount(found.splits["calibration"].labels).tolist() == [4, 4]


def test_train_and_what_is_held_out_of_it_share_no_image(tmp_path: Path) -> None:
    found = prepared(tmp_path, Code(dataset()))
    assert sorted(found.numbers("train") + found.numbers("val")) == list(range(40))


def test_given_validation_images_leave_train_whole(tmp_path: Path) -> None:
    found = prepared(tmp_path, Code(dataset(val=numbered(60, 6))))
    assert found.metrics["val_from_train"] is False
    assert found.numbers("val") == list(range(60, 66))
    assert found.numbers("train") == list(range(40))


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepared(tmp_path / name, Code(dataset()))
    files = sorted((tmp_path / "one").rglob("*.npy"))
    assert len(files) == 8
    assert all(
        file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes() for file in files
    )


def test_another_seed_holds_out_other_images(tmp_path: Path) -> None:
    drawn = [
        prepared(tmp_path / str(seed), Code(dataset()), config=Data(size=4, val_fraction=0.25, seed=seed)).numbers(
            "val"
        )
        for seed in range(2)
    ]
    assert drawn[0] != drawn[1]


def test_test_images_that_are_also_in_train_are_counted_and_named(tmp_path: Path) -> None:
    found = prepared(tmp_path, Code(dataset(test=numbered(37, 10))))
    assert found.metrics["test_images_in_train"] == 3
    assert found.metrics["files"]["test_images_in_train"] == ["test[0]", "test[1]", "test[2]"]
    assert found.lines == ["warning: 3 of 10 test images are also in train (same pixels): test[0], test[1], test[2]"]


def test_test_images_that_are_also_in_train_go_by_the_names_of_their_files(tmp_path: Path) -> None:
    names = tuple(f"test/a/{number}.png" for number in range(10))
    found = prepared(tmp_path, Code(dataset(test=replace(numbered(32, 10), names=names))))
    assert found.metrics["files"]["test_images_in_train"] == list(names[:8])


def test_what_is_left_out_is_told_the_first_ten_by_name_and_kept_in_full(tmp_path: Path) -> None:
    broken = tuple(f"train/a/{number}.png" for number in range(12))
    left_out = LeftOut(broken, ("train/a/notes.txt", "test/b/Thumbs.db"), ("train/all.png",))
    found = prepared(tmp_path, Code(dataset(left_out=left_out)))
    assert found.metrics["unreadable"] == 12
    assert found.metrics["files"]["unreadable"] == broken
    assert found.lines == [
        f"warning: 12 unreadable images left out: {', '.join(broken[:10])} and 2 more",
        "warning: 1 image left out, beside the class folders: train/all.png",
        "2 files skipped, not images by their names: train/a/notes.txt, test/b/Thumbs.db",
    ]


def test_more_calibration_images_than_train_has_are_all_of_train(tmp_path: Path) -> None:
    found = prepared(tmp_path, Code(dataset()), calibration=512)
    assert found.metrics["images"]["calibration"] == 30
    assert found.numbers("calibration") == found.numbers("train")


def test_all_of_train_may_calibrate(tmp_path: Path) -> None:
    found = prepared(tmp_path, Code(dataset()), calibration=30)
    assert found.numbers("calibration") == found.numbers("train")


def test_a_function_that_returns_no_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='"mine:data" returned a tuple'):
        prepared(tmp_path, Code((1, 2)))


def test_images_of_another_size_than_the_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, Code(dataset(train=numbered(0, 40, side=6))))
    assert caught.value.message == '"mine:data" returned images of 6×6, data.size is [4, 4]'
    assert caught.value.hint == "set data.size = [6, 6] in the recipe, the same for every split"


def test_the_digits_are_prepared_at_the_recipes_size(tmp_path: Path) -> None:
    found = prepared(tmp_path, "digits", calibration=50, config=Data(source="digits", size=(8, 10)))
    assert found.splits["test"].images.shape == (359, 8, 10, 3)
    assert found.metrics["images"] == {"train": 1294, "val": 144, "test": 359, "calibration": 50}


def test_splits_of_different_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="images of 8×8"):
        prepared(tmp_path / "out", Code(dataset(test=numbered(200, 4, side=8))))


def test_a_val_fraction_that_leaves_no_training_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leave none"):
        prepared(tmp_path / "out", Code(dataset()), config=Data(size=4, val_fraction=0.999))
