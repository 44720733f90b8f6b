"""How long each layer of a network takes at each width: a table that is measured once and then is data.

`bench/layers.py` measures it, `prune` reads it as a file.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgekd.recipe import Precision


class Layer(BaseModel):
    """A convolution or matrix multiplication by its shape, as it is before any cut. Sizes in pixels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["conv", "depthwise", "linear"]
    inputs: int
    outputs: int
    groups: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    size: tuple[int, int] = (1, 1)
    """Height and width of what enters."""

    @property
    def leaving(self) -> tuple[int, int]:
        """Height and width of what leaves."""
        sides = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        height, width = (
            (size + 2 * pad - gap * (kernel - 1) - 1) // step + 1 for size, kernel, step, pad, gap in sides
        )
        return height, width


class Grid(BaseModel):
    """Microseconds of one layer at `inputs` × `outputs` channels, both rising; of a depthwise one, one row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    layer: Layer
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    microseconds: tuple[tuple[float, ...], ...]

    def at(self, inputs: float, outputs: float) -> float:
        """Return the time at these widths, linear between those that were measured.

        Narrower never counts as slower: such a difference is noise, or a width that zero channels could fill up.
        """
        times = np.array(self.microseconds)
        times = np.maximum.accumulate(np.maximum.accumulate(times, axis=0), axis=1)
        across = [float(np.interp(outputs, self.outputs, row)) for row in times]
        return float(np.interp(inputs, self.inputs, across))


class Table(BaseModel):
    """The grids of one network's layers on one machine, and under which conditions they were measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    machine: str
    onnxruntime: str
    precision: Precision
    grids: tuple[Grid, ...]
    layers: dict[str, int]
    """By the layer's path in the network: which grid is its own."""

    def at(self, path: str, inputs: float, outputs: float) -> float:
        """Return the microseconds of one layer at these widths; 0 for one that is not in the table."""
        number = self.layers.get(path)
        return 0.0 if number is None else self.grids[number].at(inputs, outputs)


def widths_of(channels: int, block: int, most: int = 5) -> tuple[int, ...]:
    """Return the widths that are measured: multiples of `block` up to all channels, at most so many."""
    blocks = -(-channels // block)
    picked = np.unique(np.linspace(1, blocks, min(blocks, most)).round().astype(int))
    return tuple(sorted({min(channels, int(number) * block) for number in picked}))
