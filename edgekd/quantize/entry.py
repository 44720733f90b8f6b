"""How calibration samples become what a graph takes: pixels as they are, pixels normalised, or arrays by name.

A folder of samples holds images.npy, uint8 [N, H, W, 3], or for a graph with other inputs an inputs.json that names
them, and input-0.npy, input-1.npy, … in that order, [N, ...]. It is read by the batch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edgekd import front
from edgekd.front import Absorption
from edgekd.quantize.feed import Feed, Inputs
from edgekd.workload.arrays import IMAGES, INPUTS, LABELS, input_file
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
    """Normalised: (pixel - mean) / std, in pixel units."""
    channels_first: bool = False
    """Pixels and normalised: [N, 3, H, W] in place of [N, H, W, 3]."""

    @property
    def absorption(self) -> Absorption:
        """The grid of absorbed pixels."""
        return Absorption(self.scale, self.zero_point, self.exact)

    def convert(self, pixels: Images) -> NDArray[Any]:
        """Return pixels [N, H, W, 3] as the graph's one input."""
        if self.kind == "absorbed":
            return front.as_input(pixels, self.absorption)
        if self.kind == "pixels":
            return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if self.channels_first else pixels
        values = (pixels.astype(np.float32) - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if self.channels_first else values

    def feed(self, samples: Path) -> Feed:
        """Return the samples as the graph takes them."""
        if self.kind == "arrays":
            names = json.loads((samples / INPUTS).read_text(encoding="utf-8"))
            files = {name: samples / input_file(number) for number, name in enumerate(names)}
            count = min(len(np.load(file, mmap_mode="r")) for file in files.values())
            return Feed(count, lambda start, stop: {name: _rows(file, start, stop) for name, file in files.items()})
        images = samples / IMAGES

        def take(start: int, stop: int) -> Inputs:
            return {self.name: self.convert(_rows(images, start, stop))}

        return Feed(len(np.load(images, mmap_mode="r")), take)


def labels_of(samples: Path) -> NDArray[np.int64] | None:
    """Return the samples' labels, int64 [N], or None where they have none."""
    file = samples / LABELS
    return np.load(file) if file.exists() else None


def _rows(file: Path, start: int, stop: int) -> NDArray[Any]:
    """Read some rows; the map is opened anew each time, so that what was read does not stay in memory."""
    return np.array(np.load(file, mmap_mode="r")[start:stop])
