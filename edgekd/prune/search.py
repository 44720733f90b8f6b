"""Which channels to cut for budgets of work or weights: a block of channels at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import ModelError
from edgekd.prune.groups import Group, Member


@dataclass(frozen=True)
class Cut:
    """The channels of one group that go."""

    group: Group
    channels: tuple[int, ...]


@dataclass(frozen=True)
class Limit:
    """A budget: the part of a cost that may stay. `key` is the recipe's word for it."""

    key: str
    costs: Mapping[str, int]
    """By layer, what grows with its inputs and with its outputs."""
    keep: float
    of_outputs: Mapping[str, int] = field(default_factory=dict)
    """By layer, what grows with its outputs alone."""

    @property
    def whole(self) -> int:
        """The cost before any cut."""
        return sum(self.costs.values()) + sum(self.of_outputs.values())


@dataclass(frozen=True)
class Shape:
    """What widths are admissible: multiples of `block`, at least one block and the part `floor` of a group."""

    block: int
    floor: float = 0.0

    def next(self, width: int, whole: int) -> int:
        """Return the next smaller width of a group that had `whole` channels, or the same where there is none."""
        smaller = width - (width % self.block or self.block)
        return smaller if smaller >= max(self.block, math.ceil(self.floor * whole)) else width


def choose(
    groups: Sequence[Group],
    importances: Sequence[NDArray[np.float64]],
    limits: Sequence[Limit],
    shape: Shape,
    ranking: Literal["global", "uniform"] = "global",
) -> list[Cut]:
    """Cut the least important channels of each group until every limit holds.

    `global` ranks all groups together and takes the block that loses least importance per unit of cost saved;
    `uniform` takes the same part of every group. Raises ModelError naming the smallest reachable budget.
    """
    widths = [group.width for group in groups]
    for limit in limits:
        model = _Widths(groups, limit, widths)
        widths = _globally(groups, importances, model, shape) if ranking == "global" else _uniformly(model, shape)
    order = [np.argsort(importance, kind="stable") for importance in importances]
    return [
        Cut(group, tuple(sorted(int(channel) for channel in order[number][: group.width - widths[number]])))
        for number, group in enumerate(groups)
        if widths[number] < group.width
    ]


def _globally(
    groups: Sequence[Group], importances: Sequence[NDArray[np.float64]], model: _Widths, shape: Shape
) -> list[int]:
    ranked = [np.sort(importance) for importance in importances]
    while not model.holds():
        best: tuple[float, int, int] | None = None
        for number, group in enumerate(groups):
            width = model.kept[number]
            smaller = shape.next(width, group.width)
            saved = model.cost() - model.cost_at(number, smaller)
            if smaller == width or saved <= 0:
                continue
            lost = float(ranked[number][group.width - width : group.width - smaller].sum())
            if best is None or lost / saved < best[0]:
                best = (lost / saved, number, smaller)
        if best is None:
            raise _unreachable(model, shape)
        model.kept[best[1]] = best[2]
    return model.kept


def _uniformly(model: _Widths, shape: Shape) -> list[int]:
    """Shrink in each step the group that has kept the largest part of its channels."""
    whole = [group.width for group in model.groups]
    while not model.holds():
        can = [number for number, width in enumerate(model.kept) if shape.next(width, whole[number]) < width]
        if not can:
            raise _unreachable(model, shape)
        number = max(can, key=lambda each: model.kept[each] / whole[each])
        model.kept[number] = shape.next(model.kept[number], whole[number])
    return model.kept


def _unreachable(model: _Widths, shape: Shape) -> ModelError:
    limit = model.limit
    floor = f" and a floor of {shape.floor}" if shape.floor else ""
    return ModelError(
        f"prune.{limit.key} = {limit.keep}: widths in multiples of {shape.block}{floor} keep at least "
        f"{model.cost() / limit.whole:.3f}",
        f"raise prune.{limit.key}, or lower prune.block{' or prune.floor' if shape.floor else ''}",
    )


class _Widths:
    """A cost as a function of how many channels each group keeps."""

    def __init__(self, groups: Sequence[Group], limit: Limit, widths: Sequence[int]) -> None:
        self.kept = list(widths)
        self.groups = groups
        self.limit = limit
        self._sides: dict[str, dict[str, list[tuple[int, Member]]]] = {}
        for number, group in enumerate(groups):
            for member in group.members:
                self._sides.setdefault(member.layer, {}).setdefault(member.side, []).append((number, member))

    def holds(self) -> bool:
        return self.cost() <= self.limit.keep * self.limit.whole

    def cost(self) -> float:
        of_both = sum(count * self._part(layer, ("in", "out")) for layer, count in self.limit.costs.items())
        return of_both + sum(count * self._part(layer, ("out",)) for layer, count in self.limit.of_outputs.items())

    def cost_at(self, number: int, width: int) -> float:
        before, self.kept[number] = self.kept[number], width
        cost = self.cost()
        self.kept[number] = before
        return cost

    def _part(self, layer: str, sides: Sequence[str]) -> float:
        """Return the product of what is left of these sides of a layer."""
        part = 1.0
        for side in sides:
            members = self._sides.get(layer, {}).get(side)
            if members is None:
                continue
            gone = sum(
                len(member.indices) * (1 - self.kept[number] / self.groups[number].width) for number, member in members
            )
            part *= 1 - gone / members[0][1].channels
        return part
