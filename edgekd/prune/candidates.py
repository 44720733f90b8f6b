"""What may be cut, what it costs, and how much of it may stay: the words that the search is asked in."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgekd.models.channels import Group


@dataclass(frozen=True)
class Cut:
    """The channels of one group that go."""

    group: Group
    channels: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """A whole residual block that may go."""

    path: str
    layers: tuple[str, ...]
    damage: float
    """What the network loses without it, in the unit of the groups' damages."""


class Price(Protocol):
    """What a layer costs when these parts (0-1) of its inputs and outputs are left."""

    def __call__(self, inputs: float, outputs: float) -> float:
        """Return the price."""


@dataclass(frozen=True)
class Proportional:
    """A price that grows with inputs times outputs, and a part of it with the outputs alone."""

    of_both: float
    of_outputs: float = 0.0

    def __call__(self, inputs: float, outputs: float) -> float:
        """Return the price."""
        return self.of_both * inputs * outputs + self.of_outputs * outputs


@dataclass(frozen=True)
class Limit:
    """A budget: the part of a cost that may stay. `key` is the recipe's word for it."""

    key: str
    prices: Mapping[str, Price]
    """By layer."""
    keep: float

    @property
    def whole(self) -> float:
        """The cost before any cut."""
        # Exact, so that neither order nor Python's version decides whether a budget holds.
        return math.fsum(price(1.0, 1.0) for price in self.prices.values())


@dataclass(frozen=True)
class Shape:
    """What widths are admissible: multiples of `block`, at least one block and the part `floor` of a group."""

    block: int
    floor: float = 0.0

    def of(self, group: Group) -> Shape:
        """Return what is admissible in units of a group."""
        return self if group.unit == 1 else Shape(max(1, -(-self.block // group.unit)), self.floor)

    def next(self, width: int, whole: int) -> int:
        """Return the next smaller width of a group that had `whole` channels at first, or the same."""
        smaller = width - (width % self.block or self.block)
        return smaller if smaller >= max(self.block, math.ceil(self.floor * whole)) else width

    def all(self, width: int, whole: int) -> list[int]:
        """Return every admissible width below `width`, falling."""
        widths = []
        while (smaller := self.next(width, whole)) < width:
            widths.append(smaller)
            width = smaller
        return widths


@dataclass(frozen=True)
class Choice:
    """What goes."""

    cuts: tuple[Cut, ...]
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class Candidates:
    """What may be cut.

    `order[g]` ranks the channels of group g, least first; `damage[g][n]` is lost with the first n of them.
    """

    groups: Sequence[Group]
    order: Sequence[NDArray[np.int64]]
    damage: Sequence[NDArray[np.float64]]
    blocks: Sequence[Block] = ()
    originals: Sequence[int] = ()
    """The groups' widths before any cut; empty: as they are now."""

    def original(self, number: int) -> int:
        """Return the width that a group had before any cut."""
        return self.originals[number] if self.originals else self.groups[number].width

    def without(self, names: Container[str]) -> Candidates:
        """Return what is left when these groups, by root, and blocks, by path, stay whole."""
        kept = [number for number, group in enumerate(self.groups) if group.root not in names]
        return Candidates(
            groups=[self.groups[number] for number in kept],
            order=[self.order[number] for number in kept],
            damage=[self.damage[number] for number in kept],
            blocks=[block for block in self.blocks if block.path not in names],
            originals=[self.original(number) for number in kept],
        )
