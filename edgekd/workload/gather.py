"""Images for a graph that came without a recipe, written as arrays some at a time: memory does not grow with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError, listed, printable
from edgekd.hashes import files_below
from edgekd.run import Progress, Run
from edgekd.workload import images
from edgekd.workload.arrays import LABELS, images_file, reserved
from edgekd.workload.images import PLAIN, Framing
from edgekd.workload.layout import Size


@dataclass(frozen=True)
class Pictures:
    """Image files, in order; with classes, where the folder holds a folder a class."""

    files: tuple[Path, ...]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    not_images: tuple[str, ...] = ()
    """The other files, by how their names end: their names below the folder."""

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> Pictures:
        """Return some of them."""
        files = tuple(self.files[int(index)] for index in indices)
        labels = None if self.labels is None else self.labels[np.asarray(indices, int)]
        return replace(self, files=files, labels=labels)


def pictures(folder: Path) -> Pictures:
    """Find the images of a folder: of its folders, which are the classes, or its own. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"no data folder {printable(folder)}", "name a folder of images, or of .npz files")
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    own = [entry for entry in entries if entry.is_file()]
    inside = [entry for entry in entries if entry.is_dir()]
    below = [(file, label) for label, entry in enumerate(inside) for file in sorted(files_below(entry))]
    loose = [file for file in own if images.is_image(file)]
    classed = [(file, label) for file, label in below if images.is_image(file)]
    others = tuple(
        printable(file.relative_to(folder).as_posix())
        for file in (*own, *(file for file, _ in below))
        if not images.is_image(file)
    )
    if loose and classed:
        raise DataError(
            f"{printable(folder)} holds images of its own ({listed([printable(file.name) for file in loose])}) beside "
            f"folders of images ({listed([printable(entry.name) for entry in inside])})",
            "put every image into the folder of its class, or all into one folder without others",
        )
    if classed:
        _check_depth(folder, [file for file, _ in classed])
        labels = np.array([label for _, label in classed], np.int64)
        return Pictures(tuple(file for file, _ in classed), labels, tuple(entry.name for entry in inside), others)
    if not loose:
        raise DataError(f"{printable(folder)} holds no image", f"images end in {', '.join(sorted(images.SUFFIXES))}")
    return Pictures(tuple(loose), None, (), others)


def _check_depth(folder: Path, files: list[Path]) -> None:
    """Raise DataError where no class folder holds an image itself: the classes may as well be the folders below."""
    if all(len(file.relative_to(folder).parts) > 2 for file in files):
        first = files[0].relative_to(folder).parts
        raise DataError(
            f"the folders of {printable(folder)} hold their images in further folders, such as "
            f"{printable('/'.join(first[:2]))}: which are the classes is not clear",
            f"name the folder that holds the folders of the classes, such as --data {printable(folder / first[0])}",
        )


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
        array = reserved(out / images_file(group), np.uint8, shape)
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
        raise DataError(f"cannot read the image {printable(file)}: {error}", "remove it") from None
