"""How calibration samples become what a graph takes: pixels as they are, pixels normalised, or arrays by name.

A folder of samples holds images.npy, uint8 [N, H, W, C], and images-1.npy, … for each further size, or for a graph with
other inputs an inputs.json that names them, and input-0.npy, input-1.npy, … in that order; a groups.json has the axes
that count samples, where these are not all the first. It is read by the batch.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edgekd import front
from edgekd.front import Absorption
from edgekd.quantize.feed import Feed, Inputs, along
from edgekd.workload.arrays import GROUPS, INPUTS, LABELS, images_file, input_file
from edgekd.workload.dataset import Images


class Entry(BaseModel):
    """What a float graph takes, and how pixels come to be that."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["pixels", "absorbed", "normalised", "arrays"]
    name: str = ""
    """Of the graph's input; nothing where arrays come with their names."""
    scale: float = 1.0
    zero_point: int = 0
    """Absorbed: the pixels' own grid, (pixel - zero_point) · scale."""
    exact: bool = True
    """Absorbed: whether zero padding means the same as before."""
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    """Normalised: (pixel - mean) / std, in pixel units, one for each channel or one for all."""
    channels_first: bool = False
    """Pixels and normalised: [N, C, H, W] instead of [N, H, W, C]."""

    @property
    def absorption(self) -> Absorption:
        """The grid of absorbed pixels."""
        return Absorption(self.scale, self.zero_point, self.exact)

    def convert(self, pixels: Images) -> NDArray[Any]:
        """Return pixels [N, H, W, C] as the graph's one input."""
        if self.kind == "absorbed":
            return front.as_input(pixels, self.absorption)
        if self.kind == "pixels":
            return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if self.channels_first else pixels
        values = (pixels.astype(np.float32) - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if self.channels_first else values

    def feed(self, samples: Path) -> Feed:
        """Return the samples as the graph takes them."""
        if self.kind == "arrays":
            return _arrays(samples)
        files = [samples / images_file(0)]
        while (more := samples / images_file(len(files))).exists():
            files.append(more)
        counts = tuple(len(np.load(file, mmap_mode="r")) for file in files)

        def take(group: int, rows: slice) -> Inputs:
            return {self.name: self.convert(_rows(files[group], 0, rows))}

        return _grouped(counts, take)


def of_pixels() -> Entry:
    """Return how a graph is fed whose front takes the pixels themselves."""
    return Entry(kind="pixels", name=front.IMAGE)


def _arrays(samples: Path) -> Feed:
    names = json.loads((samples / INPUTS).read_text(encoding="utf-8"))
    about = {"axes": [0] * len(names), "groups": [len(np.load(samples / input_file(0), mmap_mode="r"))]}
    if (samples / GROUPS).exists():
        about = json.loads((samples / GROUPS).read_text(encoding="utf-8"))
    axes: dict[str, int | None] = dict(zip(names, about["axes"], strict=True))

    def take(group: int, rows: slice) -> Inputs:
        return {
            name: _rows(samples / input_file(number, group), axis, rows)
            for number, (name, axis) in enumerate(axes.items())
        }

    return _grouped(tuple(about["groups"]), take, axes)


def _grouped(
    counts: tuple[int, ...], take: Callable[[int, slice], Inputs], axes: Mapping[str, int | None] | None = None
) -> Feed:
    """Return the feed of some files, each a group; `take` reads some rows of one."""
    starts = (0, *accumulate(counts))

    def taken(start: int, stop: int) -> Inputs:
        group = bisect_right(starts, start) - 1
        return take(group, slice(start - starts[group], stop - starts[group]))

    return Feed(sum(counts), taken, counts, axes or {})


def labels_of(samples: Path) -> NDArray[np.int64] | None:
    """Return the samples' labels, int64 [N], or None where they have none."""
    file = samples / LABELS
    return np.load(file) if file.exists() else None


def _rows(file: Path, axis: int | None, rows: slice) -> NDArray[Any]:
    """Read some rows; the map is opened anew each time, so that what was read does not stay in memory."""
    return np.array(along(np.load(file, mmap_mode="r"), axis, rows))
