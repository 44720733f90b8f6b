"""Samples of a graph that takes no image: .npz files that hold its inputs by name.

A file holds one sample or many, along each input's batch axis. Files may differ in the axes that the graph leaves open:
samples of one shape are written together, as a group.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError, listed, printable
from edgekd.workload import archive
from edgekd.workload.archive import Header
from edgekd.workload.arrays import GROUPS, INPUTS, input_file, reserved
from edgekd.workload.splits import Indices

SUFFIX = ".npz"


@dataclass(frozen=True)
class Wanted:
    """What one input of the graph takes."""

    kind: np.dtype[Any]
    dims: tuple[int | None, ...]
    """None where the size is open."""
    axis: int | None
    """The batch's; None: one value for all samples of a file."""

    def rows(self, shape: tuple[int, ...]) -> int | None:
        """Return how many samples an array holds; None where it does not say."""
        return None if self.axis is None else shape[self.axis]

    def fits(self, shape: tuple[int, ...], kind: np.dtype[Any]) -> bool:
        """Whether an array is of the type, and of the shape but for its batch."""
        sides = [size if at != self.axis else None for at, size in enumerate(self.dims)]
        same = len(shape) == len(sides) and all(
            size is None or size == has for size, has in zip(sides, shape, strict=True)
        )
        return same and kind == self.kind

    def of_one(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape without its batch."""
        return tuple(size for at, size in enumerate(shape) if at != self.axis)

    def take(self, value: NDArray[Any], rows: Indices | slice) -> NDArray[Any]:
        """Return some samples of an array; all of it where it has no batch."""
        return value if self.axis is None else value[(slice(None),) * self.axis + (rows,)]

    def __str__(self) -> str:
        sides = ["N" if at == self.axis else str(size or "any") for at, size in enumerate(self.dims)]
        return f"{self.kind} [{', '.join(sides)}]"


@dataclass(frozen=True)
class Found:
    """Files in the order of their names, and how many samples each holds."""

    wanted: Mapping[str, Wanted]
    files: tuple[Path, ...]
    rows: tuple[int, ...]
    groups: tuple[int, ...]
    """By file: which of the shapes its samples have, counted from 0 as they appear."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The group of every sample, int64 [N]: a draw that is stratified by it has some of each shape."""
        return np.repeat(np.array(self.groups, np.int64), self.rows)

    @property
    def owners(self) -> NDArray[np.int64]:
        """The file of every sample, int64 [N]."""
        return np.repeat(np.arange(len(self.files)), self.rows)


def files_of(data: Path) -> list[Path]:
    """Return the .npz files of a folder, or the one file itself; empty where there are none."""
    if data.suffix == SUFFIX and data.is_file():
        return [data]
    return sorted(data.glob(f"*{SUFFIX}")) if data.is_dir() else []


def find(data: Path, wanted: Mapping[str, Wanted]) -> Found:
    """Look at the headers of all files. Raises DataError for what the graph does not take."""
    files = files_of(data)
    rows, keys = [], []
    for file in files:
        headers = _checked(file, wanted)
        rows.append(_rows(file, headers, wanted))
        shapes = tuple(wanted[name].of_one(each.shape) for name, each in headers.items())
        # One value for all samples of a batch: samples of another value are another group.
        common = [name for name, each in wanted.items() if each.axis is None]
        values = tuple(value.tobytes() for value in archive.read(file, common).values())
        keys.append((shapes, values))
    order = list(dict.fromkeys(keys))
    return Found(wanted, tuple(files), tuple(rows), tuple(order.index(key) for key in keys))


def write(found: Found, chosen: Indices, out: Path) -> None:
    """Write the chosen samples, a file per input and group, and what they are as INPUTS and GROUPS."""
    out.mkdir(parents=True)
    starts = np.cumsum([0, *found.rows])
    owners, groups = found.owners[chosen], found.labels[chosen]
    sizes: list[int] = []
    for group in dict.fromkeys(groups.tolist()):
        held: dict[str, NDArray[Any]] = {}
        total, done = int((groups == group).sum()), 0
        for owner in dict.fromkeys(owners[groups == group].tolist()):
            rows = chosen[owners == owner] - starts[owner]
            values = archive.read(found.files[owner], list(found.wanted))
            for number, (name, each) in enumerate(found.wanted.items()):
                value = each.take(values[name], rows)
                shape = list(value.shape)
                if each.axis is not None:
                    shape[each.axis] = total
                if name not in held:
                    file = out / input_file(number, len(sizes))
                    held[name] = reserved(file, value.dtype, tuple(shape))
                each.take(held[name], slice(done, done + len(rows)))[...] = value
            done += len(rows)
        sizes.append(total)
    about = {"axes": [each.axis for each in found.wanted.values()], "groups": sizes}
    (out / INPUTS).write_text(json.dumps(list(found.wanted)), encoding="utf-8")
    (out / GROUPS).write_text(json.dumps(about), encoding="utf-8")


def _checked(file: Path, wanted: Mapping[str, Wanted]) -> dict[str, Header]:
    found = archive.look(file, wanted)
    called = printable(file.name)
    if missing := sorted(set(wanted) - set(found.headers)):
        has = listed([printable(name) for name in sorted(found.names)]) or "none"
        raise DataError(
            f"{called} has no array {', '.join(missing)} (it has {has})", f"the graph's inputs are {', '.join(wanted)}"
        )
    for name, each in wanted.items():
        shape, kind = found.headers[name].shape, found.headers[name].kind
        if not each.fits(shape, kind):
            raise DataError(f"{called}: {name} is {kind} {list(shape)}", f"the graph takes {each}")
    return found.headers


def _rows(file: Path, headers: Mapping[str, Header], wanted: Mapping[str, Wanted]) -> int:
    found = {rows for name, each in headers.items() if (rows := wanted[name].rows(each.shape)) is not None}
    if len(found) > 1:
        raise DataError(
            f"{printable(file.name)} holds {sorted(found)} rows", "every input needs the same number of rows"
        )
    return found.pop() if found else 1
