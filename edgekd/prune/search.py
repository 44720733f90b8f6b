"""Which channels to cut for a multiply-accumulate budget: greedy, a block of channels at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import ModelError
from edgekd.prune.groups import Group, Member


@dataclass(frozen=True)
class Cut:
    """The channels of one group that go."""

    group: Group
    channels: tuple[int, ...]


def choose(
    groups: Sequence[Group],
    importances: Sequence[NDArray[np.float64]],
    macs: Mapping[str, int],
    keep: float,
    block: int,
) -> list[Cut]:
    """Cut the blocks that lose least importance per multiply-accumulate saved, until `keep` of all `macs` are left.

    All groups are ranked together. A group's width stays a multiple of `block`, at least one block. Raises
    ModelError naming the smallest reachable budget when `keep` is out of reach.
    """
    model = _Widths(groups, macs)
    total = sum(macs.values())
    order = [np.argsort(importance, kind="stable") for importance in importances]
    while model.macs() > keep * total:
        best: tuple[float, int] | None = None
        for number, group in enumerate(groups):
            step = _step(model.kept[number], block)
            if not step:
                continue
            cut = group.width - model.kept[number]
            lost = float(importances[number][order[number][cut : cut + step]].sum())
            saved = model.macs() - model.macs_after(number, step)
            if saved > 0 and (best is None or lost / saved < best[0]):
                best = (lost / saved, number)
        if best is None:
            raise ModelError(
                f"prune.keep_macs = {keep}: widths in multiples of {block} keep at least {model.macs() / total:.3f}",
                "raise prune.keep_macs, or lower prune.block",
            )
        model.kept[best[1]] -= _step(model.kept[best[1]], block)
    return [
        Cut(group, tuple(sorted(int(channel) for channel in order[number][: group.width - model.kept[number]])))
        for number, group in enumerate(groups)
        if model.kept[number] < group.width
    ]


def _step(width: int, block: int) -> int:
    """Return how many channels the next cut takes: down to a multiple of the block, never the last block."""
    if width <= block:
        return 0
    return width % block or block


class _Widths:
    """Multiply-accumulates as a function of how many channels each group keeps."""

    def __init__(self, groups: Sequence[Group], macs: Mapping[str, int]) -> None:
        self.kept = [group.width for group in groups]
        self._groups = groups
        self._macs = macs
        self._sides: dict[str, dict[str, list[tuple[int, Member]]]] = {}
        for number, group in enumerate(groups):
            for member in group.members:
                self._sides.setdefault(member.layer, {}).setdefault(member.side, []).append((number, member))

    def macs(self) -> float:
        return sum(count * self._part(layer) for layer, count in self._macs.items())

    def macs_after(self, number: int, step: int) -> float:
        self.kept[number] -= step
        after = self.macs()
        self.kept[number] += step
        return after

    def _part(self, layer: str) -> float:
        """Return the part of a layer's work that is left: its outputs' part times its inputs' part."""
        part = 1.0
        for members in self._sides.get(layer, {}).values():
            gone = sum(
                len(member.indices) * (1 - self.kept[number] / self._groups[number].width) for number, member in members
            )
            part *= 1 - gone / members[0][1].channels
        return part
