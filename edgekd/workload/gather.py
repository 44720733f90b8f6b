"""Images for a graph that came without a recipe, written as arrays some at a time: memory does not grow with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from edgekd.errors import DataError
from edgekd.run import Progress, Run
from edgekd.workload import images
from edgekd.workload.arrays import LABELS, images_file
from edgekd.workload.images import PLAIN, Framing
from edgekd.workload.layout import Size

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"}


@dataclass(frozen=True)
class Pictures:
    """Image files, in order; with classes, where the folder holds a folder a class."""

    files: tuple[Path, ...]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> Pictures:
        """Return some of them."""
        files = tuple(self.files[int(index)] for index in indices)
        return Pictures(files, None if self.labels is None else self.labels[np.asarray(indices, int)], self.classes)


def pictures(folder: Path) -> Pictures:
    """Find the images of a folder: of its folders, which are the classes, or its own. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}", "name a folder of images, or of .npz files")
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found = [(file, label) for label, entry in enumerate(inside) for file in _images(entry)]
    if found:
        labels = np.array([label for _, label in found], np.int64)
        return Pictures(tuple(file for file, _ in found), labels, tuple(entry.name for entry in inside))
    files = _images(folder)
    if not files:
        raise DataError(f"{folder} holds no image", f"images end in {', '.join(sorted(_SUFFIXES))}")
    return Pictures(tuple(files), None, ())


def write_pictures(found: Pictures, sizes: Sequence[Size], out: Path, run: Run, framing: Framing = PLAIN) -> None:
    """Decode, resize and write the images, and labels.npy where there are classes. Raises DataError.

    Of several sizes each image gets one, in turn, so that every class is seen at all of them; each size is a file.
    """
    out.mkdir(parents=True)
    total, done = len(found.files), 0
    used = sizes[: max(1, total)]
    order = [np.arange(first, total, len(used)) for first in range(len(used))]
    for group, (size, indices) in enumerate(zip(used, order, strict=True)):
        shape = (len(indices), *size, framing.channels)
        array = open_memmap(out / images_file(group), "w+", np.uint8, shape)
        for number, file in enumerate(found.files[int(index)] for index in indices):
            array[number] = _pixels(file, size, framing)
            if done % 100 == 0:
                run.show(Progress("images", done, total, file.parent.name))
            done += 1
        array.flush()
    if found.labels is not None:
        np.save(out / LABELS, found.labels[np.concatenate(order)])


def _pixels(file: Path, size: Size, framing: Framing) -> NDArray[np.uint8]:
    try:
        return images.read(file, size, framing)
    except images.UnreadableImageError as error:
        raise DataError(f"cannot read the image {file}: {error}", "remove it") from None


def _images(folder: Path) -> list[Path]:
    return sorted(
        file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
    )
