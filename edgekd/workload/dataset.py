"""Images and labels in memory, as every stage sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError

Images = NDArray[np.uint8]
"""uint8 [N, H, W, 3], RGB."""
Labels = NDArray[np.int64]
"""int64 [N], an index into the classes."""


@dataclass(frozen=True)
class Split:
    """Some images and their labels."""

    images: Images
    labels: Labels

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

    def take(self, indices: NDArray[np.int64]) -> Split:
        """Return the images at these indices."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """What a user's data function returns. Without `val`, a part of train is held out."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    val: Split | None = None
    unreadable: int = 0

    def __post_init__(self) -> None:
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
