"""Samples for a graph that came without a recipe: a folder of images, or of .npz files that hold its inputs by name.

They are written as arrays, some at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from edgekd.errors import DataError
from edgekd.run import Progress, Run
from edgekd.workload import images
from edgekd.workload.arrays import IMAGES, INPUTS, LABELS, input_file
from edgekd.workload.splits import stratified

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


def draw(found: Pictures, count: int, seed: int) -> tuple[Pictures, Pictures]:
    """Return `count` of them, stratified by class, and the rest. Raises DataError where there are fewer."""
    total = len(found.files)
    if count > total:
        raise DataError(
            f"{count} calibration images are asked for, the folder holds {total}", f"--samples {total}, or more images"
        )
    labels = found.labels if found.labels is not None else np.zeros(total, np.int64)
    chosen = stratified(labels, count, seed)
    return found.take(chosen), found.take(np.setdiff1d(np.arange(total), chosen))


def write_pictures(found: Pictures, shape: tuple[int, int], out: Path, run: Run) -> None:
    """Decode, resize and write images.npy, and labels.npy where there are classes. Raises DataError."""
    out.mkdir(parents=True)
    array = open_memmap(out / IMAGES, "w+", np.uint8, (len(found.files), *shape, 3))
    for number, file in enumerate(found.files):
        try:
            array[number] = images.read(file, shape)
        except images.UnreadableImageError as error:
            raise DataError(f"cannot read the image {file}: {error}", "remove it") from None
        if number % 100 == 0:
            run.show(Progress("images", number, len(found.files), file.parent.name))
    array.flush()
    if found.labels is not None:
        np.save(out / LABELS, found.labels)


def write_arrays(
    folder: Path, wanted: Mapping[str, tuple[np.dtype[np.generic], tuple[int | None, ...]]], count: int, out: Path
) -> int:
    """Write the inputs of .npz files, joined along the first axis, at most `count` rows; return how many rows.

    `wanted` is each input's type and shape without the first axis, None where it is open. Raises DataError.
    """
    out.mkdir(parents=True)
    rows = 0
    held: dict[str, NDArray[np.generic]] = {}
    for file in sorted(folder.glob("*.npz")):
        if rows >= count:
            break
        one = _read(file, wanted)
        lengths = {len(value) for value in one.values()}
        if len(lengths) > 1:
            raise DataError(f"{file.name} holds {sorted(lengths)} rows", "every input needs the same number of rows")
        taken = min(lengths.pop(), count - rows)
        for number, (name, value) in enumerate(one.items()):
            if name not in held:
                held[name] = open_memmap(out / input_file(number), "w+", value.dtype, (count, *value.shape[1:]))
            if held[name].shape[1:] != value.shape[1:]:
                raise DataError(
                    f"{file.name}: {name} is {list(value.shape[1:])}, in the files before {list(held[name].shape[1:])}",
                    "samples of one calibration have one size",
                )
            held[name][rows : rows + taken] = value[:taken]
        rows += taken
    if rows < count:
        raise DataError(f"{count} samples are asked for, the folder holds {rows}", f"--samples {rows}, or more files")
    (out / INPUTS).write_text(json.dumps(list(wanted)), encoding="utf-8")
    return rows


def _read(
    file: Path, wanted: Mapping[str, tuple[np.dtype[np.generic], tuple[int | None, ...]]]
) -> dict[str, NDArray[np.generic]]:
    try:
        with np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, TypeError, AttributeError, KeyError, BadZipFile) as error:
        raise DataError(f"cannot read {file.name}: {error}", "numpy.savez writes such files") from None
    if missing := sorted(set(wanted) - set(found)):
        raise DataError(
            f"{file.name} has no array {', '.join(missing)} (it has {', '.join(sorted(found))})",
            f"the graph's inputs are {', '.join(wanted)}",
        )
    for name, (kind, shape) in wanted.items():
        value = found[name]
        fits = len(value.shape) == len(shape) + 1 and all(
            side is None or side == has for side, has in zip(shape, value.shape[1:], strict=True)
        )
        if not fits or value.dtype != kind:
            sides = ", ".join("any" if side is None else str(side) for side in shape)
            raise DataError(
                f"{file.name}: {name} is {value.dtype} {list(value.shape)}",
                f"the graph takes {kind} [N, {sides}]",
            )
    return {name: found[name] for name in wanted}


def _images(folder: Path) -> list[Path]:
    return sorted(
        file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES and not file.name.startswith(".")
    )
