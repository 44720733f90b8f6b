"""An image folder, train/<class>/* and test/<class>/*, as a Dataset."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError, did_you_mean, printable
from edgekd.hashes import files_below
from edgekd.recipe import Data
from edgekd.run import Progress, Run
from edgekd.workload import images
from edgekd.workload.dataset import Dataset, LeftOut, Split, check_class, check_classes

_LAYOUT = "an image folder holds train/<class>/* and test/<class>/*"


def read(folder: Path, val: Path | None, config: Data, run: Run) -> Dataset:
    """Read all images. Raises DataError naming the folder or file that is wrong."""
    check(folder, val, config)
    classes = config.labels or _classes(folder / "train")
    reader = _Reader(classes, config, run)
    train, test = reader.split(folder / "train", "train"), reader.split(folder / "test", "test")
    held = reader.split(val, "val") if val else None
    return Dataset(train, test, classes, held, reader.left_out())


def check(folder: Path, val: Path | None, config: Data) -> None:
    """Look at the folders only, before any work. Raises DataError."""
    for label in config.labels:
        _check_label(label)
    if not folder.is_dir():
        raise DataError(f"no data folder {printable(folder)}", f"point data.path at it; {_LAYOUT}")
    splits = (folder / "train", folder / "test", *([val] if val else []))
    for split in splits:
        _check_split(split)
    owner = "data.labels" if config.labels else "train"
    classes = config.labels or _classes(folder / "train")
    for split in splits:
        _check_images(split, classes, owner)
    check_classes(classes)


def _instead(split: Path) -> str:
    """Say what lies beside a folder that is missing and may be it."""
    beside = sorted(each.name for each in split.parent.glob("*/")) if split.parent.is_dir() else []
    val = next((name for name in beside if name.lower() in {"val", "valid", "validation"}), "")
    if split.name == "test" and val:
        return (
            f"there is a {val}/: rename it to test/, where the shipped model is judged; or put test images into test/ "
            f"and keep it for validation: data.val"
        )
    return did_you_mean(split.name, beside) + _LAYOUT


def _check_split(split: Path) -> None:
    if not split.is_dir():
        raise DataError(f"no folder {printable(split)}", _instead(split))
    found = _classes(split)
    if not found:
        raise DataError(f"{printable(split)} holds no class folder", _LAYOUT)
    for name in found:
        check_class(name, f"the class folder {printable(split / name)}")


def _check_images(split: Path, classes: tuple[str, ...], owner: str) -> None:
    """Raise DataError where a split has another class than `classes`, which are the owner's, or no image of one."""
    for extra in sorted(set(_classes(split)) - set(classes)):
        raise DataError(
            f'{printable(split)} has a class "{extra}" that {owner} does not have',
            f"{did_you_mean(extra, classes)}classes: {', '.join(classes[:12])}",
        )
    for name in classes:
        if not any(map(images.is_image, files_below(split / name))):
            ends = ", ".join(sorted(images.SUFFIXES))
            hint = f"add images, whose names end in {ends}; or remove the class everywhere"
            raise DataError(f"class folder {printable(split / name)} has no image", hint)


def _check_label(label: str) -> None:
    check_class(label, f'data.labels: "{printable(label)}"')
    if not label or label != PurePath(label).name or label.startswith("."):
        # Anything else would lead to another folder than one of the split's own, or to one that is hidden.
        raise DataError(f'data.labels: "{label}" is not the name of a class folder', _LAYOUT)


def _classes(split: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in split.iterdir() if entry.is_dir() and not entry.name.startswith(".")))


class _Reader:
    def __init__(self, classes: tuple[str, ...], config: Data, run: Run) -> None:
        self._classes = classes
        self._config = config
        self._run = run
        self._unreadable: list[str] = []
        self._not_images: list[str] = []
        self._in_no_class: list[str] = []

    def left_out(self) -> LeftOut:
        """Return what no split has."""
        return LeftOut(tuple(self._unreadable), tuple(self._not_images), tuple(self._in_no_class))

    def split(self, folder: Path, called: str) -> Split:
        """Read the images of all classes, in the order of their paths; `called` begins their names."""
        files = self._find(folder, called)
        pixels = np.empty((len(files), *self._config.shape, 3), np.uint8)
        labels = np.empty(len(files), np.int64)
        names: list[str] = []
        # Pillow decodes outside the interpreter's lock.
        with ThreadPoolExecutor() as pool:
            decoded = pool.map(lambda item: self._decode(item[0]), files)
            for number, ((file, label), image) in enumerate(zip(files, decoded, strict=True)):
                name = _name(file, folder, called)
                if image is None:
                    self._unreadable.append(name)
                    continue
                pixels[len(names)], labels[len(names)] = image, label
                names.append(name)
                if number % 500 == 0:
                    self._run.show(Progress("prepare", number, len(files), called))
        kept = len(names)
        self._check_classes(labels[:kept], folder)
        return Split(pixels[:kept], labels[:kept], tuple(names))

    def _find(self, folder: Path, called: str) -> list[tuple[Path, int]]:
        """Return the images of a split, each with its label."""
        files: list[tuple[Path, int]] = []
        for label, name in enumerate(self._classes):
            for file in sorted(files_below(folder / name)):
                if images.is_image(file):
                    files.append((file, label))
                else:
                    self._not_images.append(_name(file, folder, called))
        beside = (file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
        self._in_no_class += sorted(_name(file, folder, called) for file in beside if images.is_image(file))
        return files

    def _check_classes(self, labels: NDArray[np.int64], folder: Path) -> None:
        """Raise DataError where a class has only images that were left out."""
        for label in np.flatnonzero(np.bincount(labels, minlength=len(self._classes)) == 0):
            raise DataError(
                f"no image of the class folder {printable(folder / self._classes[label])} can be read",
                "add images, or remove the class everywhere",
            )

    def _decode(self, file: Path) -> NDArray[np.uint8] | None:
        try:
            return images.read(file, self._config.shape)
        except images.UnreadableImageError as error:
            if self._config.skip_unreadable:
                return None
            raise DataError(
                f"cannot read the image {printable(file)}: {error}",
                "remove it, or set data.skip_unreadable = true to leave such images out and name them",
            ) from None


def _name(file: Path, folder: Path, called: str) -> str:
    return printable((called / file.relative_to(folder)).as_posix())
