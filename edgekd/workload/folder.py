"""An image folder, train/<class>/* and test/<class>/*, as a Dataset."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError, did_you_mean
from edgekd.recipe import Data
from edgekd.run import Progress, Run
from edgekd.workload import images
from edgekd.workload.dataset import Dataset, Split, check_classes

_LAYOUT = "an image folder holds train/<class>/* and test/<class>/*"


def read(folder: Path, val: Path | None, config: Data, run: Run) -> Dataset:
    """Read all images. Raises DataError naming the folder or file that is wrong."""
    check(folder, val, config)
    classes = config.labels or _classes(folder / "train")
    reader = _Reader(classes, config, run)
    train, test = reader.split(folder / "train"), reader.split(folder / "test")
    held = reader.split(val) if val else None
    return Dataset(train, test, classes, held, reader.unreadable)


def check(folder: Path, val: Path | None, config: Data) -> None:
    """Look at the folders only, before any work. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}", f"point data.path at it; {_LAYOUT}")
    for split in (folder / "train", folder / "test", *([val] if val else [])):
        if not split.is_dir():
            raise DataError(f"no folder {split}", _instead(split))
        if not _classes(split):
            raise DataError(f"{split} holds no class folder", _LAYOUT)
    train = _classes(folder / "train")
    classes = config.labels or train
    for split in (folder / "train", folder / "test", *([val] if val else [])):
        found = _classes(split)
        for extra in sorted(set(found) - set(classes)):
            raise DataError(
                f'{split} has a class "{extra}" that {"data.labels" if config.labels else "train"} does not have',
                f"{did_you_mean(extra, classes)}classes: {', '.join(classes[:12])}",
            )
        for name in classes:
            if not any(_files(split / name)):
                hint = "add images, or remove the class everywhere"
                raise DataError(f"class folder {split / name} has no image", hint)
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


def _classes(split: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in split.iterdir() if entry.is_dir() and not entry.name.startswith(".")))


def _files(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return
    for file in folder.iterdir():
        if file.is_file() and not file.name.startswith("."):
            yield file


class _Reader:
    def __init__(self, classes: tuple[str, ...], config: Data, run: Run) -> None:
        self.unreadable = 0
        self._classes = classes
        self._config = config
        self._run = run

    def split(self, folder: Path) -> Split:
        files = [(file, label) for label, name in enumerate(self._classes) for file in sorted(_files(folder / name))]
        pixels = np.empty((len(files), *self._config.shape, 3), np.uint8)
        labels = np.empty(len(files), np.int64)
        kept = 0
        # Pillow decodes outside the interpreter's lock.
        with ThreadPoolExecutor() as pool:
            decoded = pool.map(lambda item: self._decode(item[0]), files)
            for number, ((_, label), image) in enumerate(zip(files, decoded, strict=True)):
                if image is None:
                    self.unreadable += 1
                    continue
                pixels[kept], labels[kept] = image, label
                kept += 1
                if number % 500 == 0:
                    self._run.show(Progress("prepare", number, len(files), folder.name))
        return Split(pixels[:kept], labels[:kept])

    def _decode(self, file: Path) -> NDArray[np.uint8] | None:
        try:
            return images.read(file, self._config.shape)
        except images.UnreadableImageError as error:
            if self._config.skip_unreadable:
                return None
            raise DataError(
                f"cannot read the image {file}: {error}",
                "remove it, or set data.skip_unreadable = true to leave such images out and count them",
            ) from None
