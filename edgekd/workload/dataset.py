"""Images and labels in memory, as every stage sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError, is_printable, printable

Images = NDArray[np.uint8]
"""uint8 [N, H, W, 3], RGB."""
Labels = NDArray[np.int64]
"""int64 [N], an index into the classes."""


@dataclass(frozen=True)
class Split:
    """Some images and their labels."""

    images: Images
    labels: Labels
    names: tuple[str, ...] = ()
    """Of the images' files, below the data folder; empty where there are none."""

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[3] != 3:
            raise DataError(
                f"images are {self.images.dtype} {list(self.images.shape)}",
                "they must be uint8 [N, H, W, 3], RGB",
            )
        if self.labels.shape != (len(self.images),) or not np.issubdtype(self.labels.dtype, np.integer):
            raise DataError(
                f"{len(self.images)} images, labels {self.labels.dtype} {list(self.labels.shape)}",
                "there must be one integer label per image",
            )
        if self.names and len(self.names) != len(self.images):
            raise DataError(f"{len(self.images)} images, {len(self.names)} names", "name all images, or none")

    def take(self, indices: NDArray[np.int64]) -> Split:
        """Return the images at these indices."""
        names = tuple(self.names[index] for index in indices) if self.names else ()
        return Split(self.images[indices], self.labels[indices], names)


@dataclass(frozen=True)
class LeftOut:
    """Files of a data folder that no split has, by their names below it."""

    unreadable: tuple[str, ...] = ()
    """Images that cannot be decoded, where the recipe says to go on without them."""
    not_images: tuple[str, ...] = ()
    """Other files in the class folders, by how their names end."""
    in_no_class: tuple[str, ...] = ()
    """Images that lie beside the class folders."""


@dataclass(frozen=True)
class Dataset:
    """What a user's data function returns. Without `val`, a part of train is held out."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    val: Split | None = None
    left_out: LeftOut = LeftOut()

    def __post_init__(self) -> None:
        for name in self.classes:
            check_class(name, f'the class "{printable(name)}"')
        for split in (self.train, self.test, *([self.val] if self.val else [])):
            if len(split.labels) == 0:
                raise DataError("a split of the data is empty", "train and test both need images")
            if split.labels.min() < 0 or split.labels.max() >= len(self.classes):
                raise DataError(
                    f"labels run from {split.labels.min()} to {split.labels.max()}, but there are "
                    f"{len(self.classes)} classes",
                    "labels are indices into the classes, from 0",
                )
        check_classes(self.classes)


def check_classes(classes: tuple[str, ...]) -> None:
    """Raise DataError where there is nothing to tell apart."""
    if len(classes) < 2:
        only = f', "{classes[0]}"' if classes else ""
        raise DataError(
            f"the data has {len(classes)} class{'' if classes else 'es'}{only}", "a classifier tells two or more apart"
        )


def check_class(name: str, where: str) -> None:
    """Raise DataError for the name of a class that cannot be a line of labels.txt."""
    if not is_printable(name):
        raise DataError(
            f"{where} has a line break, another control character or bytes that are not UTF-8 in its name",
            "rename it: labels.txt has one class a line",
        )
