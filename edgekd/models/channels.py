"""Channels that live and die together, as values: what pruning cuts and what sparsity is asked of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter
from torch import Tensor, nn


@dataclass(frozen=True)
class Member:
    """A layer of a group: which side of it is cut, and the indices there of the group's channels, in their order.

    `indices` holds `len(indices) / width` entries per channel (more than one behind a flatten).
    """

    layer: str
    side: str
    """`out` or `in`."""
    indices: tuple[int, ...]
    channels: int
    """All channels of that side of the layer: behind a concat, more than the group's."""


@dataclass(frozen=True)
class Group:
    """Channels that live and die together."""

    root: str
    """The path of a layer whose output channels they are."""
    width: int
    members: tuple[Member, ...]
    unit: int = 1
    """Channels of the root in each of them: more than one where whole groups of a convolution go."""

    def indices(self, member: Member, channels: Iterable[int]) -> list[int]:
        """Return where some of the group's channels lie on a member's side."""
        parts = len(member.indices) // self.width
        return [member.indices[channel * parts + part] for channel in channels for part in range(parts)]


_FILE = TypeAdapter(tuple[Group, ...])


def write(groups: Sequence[Group], file: Path) -> None:
    """Write groups as JSON."""
    file.write_bytes(_FILE.dump_json(tuple(groups)))


def read(file: Path) -> tuple[Group, ...]:
    """Read groups that `write` wrote."""
    return _FILE.validate_json(file.read_bytes())


def weight_of(layer: nn.Module) -> Tensor | None:
    """Return a layer's weight as [outputs, inputs, …], or None for one without such."""
    return layer.weight if isinstance(layer, nn.Conv2d | nn.Linear) else None


def rows_of(weight: Tensor, member: Member, width: int) -> Tensor:
    """Return the weights of each of a group's channels in one layer, [width, …]."""
    rows = weight if member.side == "out" else weight.transpose(0, 1)
    # A depthwise weight has one input: both sides are its rows.
    rows = weight if len(rows) < len(member.indices) else rows
    return rows[list(member.indices)].flatten(1).reshape(width, -1)
