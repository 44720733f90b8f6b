"""What to cut for budgets of work, weights or time: a block of channels, or a whole residual block, at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from edgekd.errors import ModelError
from edgekd.models.channels import Member
from edgekd.prune.candidates import Candidates, Choice, Cut, Limit, Shape


def choose(
    candidates: Candidates, limits: Sequence[Limit], shape: Shape, ranking: Literal["greedy", "uniform"] = "greedy"
) -> Choice:
    """Cut what does least damage per unit of cost saved until every limit holds, then give back what still fits.

    `uniform` takes the same part of every group, and no blocks. Raises ModelError naming the smallest reachable
    budget.
    """
    state = _State(candidates, limits, shape)
    for limit in limits:
        while not state.holds(limit):
            move = state.cheapest(limit) if ranking == "greedy" else state.widest(limit)
            if move is None:
                raise _unreachable(state, limit, shape)
            state.apply(move)
    if ranking == "greedy":
        state.give_back()
    return state.choice()


def narrowest(candidates: Candidates, limit: Limit, shape: Shape) -> tuple[Choice, float]:
    """Return all that can be cut to lower a cost, and the part of the cost that is left."""
    state = _State(candidates, [limit], shape)
    while (move := state.cheapest(limit)) is not None:
        state.apply(move)
    return state.choice(), state.cost(limit) / limit.whole


@dataclass(frozen=True)
class _Move:
    """Give one group another width, or take one block out or back in (width 0 or 1)."""

    kind: Literal["group", "block"]
    number: int
    width: int


class _State:
    """Widths and blocks as they stand, and what the network costs so."""

    def __init__(self, candidates: Candidates, limits: Sequence[Limit], shape: Shape) -> None:
        self._candidates, self._limits, self._shape = candidates, limits, shape
        self.widths = [group.width for group in candidates.groups]
        self.present = [1] * len(candidates.blocks)
        self._sides: dict[str, dict[str, list[tuple[int, Member]]]] = {}
        for number, group in enumerate(candidates.groups):
            for member in group.members:
                self._sides.setdefault(member.layer, {}).setdefault(member.side, []).append((number, member))
        # Without order in them, sums of floats would hang on the hash of names.
        self._layers = [tuple(dict.fromkeys(member.layer for member in group.members)) for group in candidates.groups]
        self._block_of = {layer: number for number, block in enumerate(candidates.blocks) for layer in block.layers}
        self._home = [self._only_block(layers) for layers in self._layers]
        self._best: dict[tuple[str, _Move], tuple[float, _Move] | None] = {}

    def cost(self, limit: Limit) -> float:
        return self._of_layers(limit, limit.prices)

    def holds(self, limit: Limit) -> bool:
        return self.cost(limit) <= limit.keep * limit.whole

    def cheapest(self, limit: Limit) -> _Move | None:
        """Return the move that loses least per cost saved."""
        best: tuple[float, _Move] | None = None
        for move in self._moves():
            key = (limit.key, move)
            if key not in self._best:
                self._best[key] = self._ratio(limit, move)
            found = self._best[key]
            if found is not None and (best is None or found[0] < best[0]):
                best = found
        return best[1] if best else None

    def widest(self, limit: Limit) -> _Move | None:
        """Return the next step of the group that has kept the largest part of its channels."""
        groups = self._candidates.groups
        can = [move for move in self._moves() if move.kind == "group"]
        return max(can, key=lambda move: self.widths[move.number] / groups[move.number].width, default=None)

    def apply(self, move: _Move) -> None:
        touched = set(self._touched(move))
        self._put(move)
        # What a move saves changes only where it shares a layer with this one.
        self._best = {key: found for key, found in self._best.items() if touched.isdisjoint(self._touched(key[1]))}

    def give_back(self) -> None:
        """Undo what still fits, the greatest damage first: the last move may have saved more than was needed."""
        while True:
            for move in sorted(self._undos(), key=self._damage):
                before = _Move(move.kind, move.number, self._current(move))
                self._put(move)
                if all(self.holds(limit) for limit in self._limits):
                    break
                self._put(before)
            else:
                return

    def choice(self) -> Choice:
        candidates = self._candidates
        cuts = tuple(
            Cut(group, tuple(sorted(int(each) for each in candidates.order[number][: group.width - width])))
            for number, (group, width) in enumerate(zip(candidates.groups, self.widths, strict=True))
            if width < group.width and not self._is_gone(number)
        )
        gone = tuple(block.path for block, here in zip(candidates.blocks, self.present, strict=True) if not here)
        return Choice(cuts, gone)

    def _moves(self) -> list[_Move]:
        moves = []
        for number in range(len(self.widths)):
            smaller = self._shape_of(number).next(self.widths[number], self._candidates.original(number))
            if smaller < self.widths[number] and not self._is_gone(number):
                moves.append(_Move("group", number, smaller))
        return [*moves, *(_Move("block", number, 0) for number, here in enumerate(self.present) if here)]

    def _undos(self) -> list[_Move]:
        moves = [_Move("block", number, 1) for number, here in enumerate(self.present) if not here]
        for number, group in enumerate(self._candidates.groups):
            width, block = self.widths[number], self._shape_of(number).block
            if width < group.width and not self._is_gone(number):
                moves.append(_Move("group", number, min(group.width, width - width % block + block)))
        return moves

    def _shape_of(self, number: int) -> Shape:
        return self._shape.of(self._candidates.groups[number])

    def _only_block(self, layers: Sequence[str]) -> int | None:
        """Return the block that holds all these layers."""
        homes = {self._block_of.get(layer) for layer in layers}
        return homes.pop() if len(homes) == 1 else None

    def _is_gone(self, number: int) -> bool:
        home = self._home[number]
        return home is not None and not self.present[home]

    def _ratio(self, limit: Limit, move: _Move) -> tuple[float, _Move] | None:
        """Return the damage per cost saved; of a width that saves nothing, that of a smaller one."""
        layers = self._touched(move)
        before = _Move(move.kind, move.number, self._current(move))
        cost = self._of_layers(limit, layers)
        while True:
            self._put(move)
            saved = cost - self._of_layers(limit, layers)
            self._put(before)
            if saved > 0:
                return max(0.0, self._damage(move)) / saved, move
            if move.kind == "block":
                return None
            smaller = self._shape_of(move.number).next(move.width, self._candidates.original(move.number))
            if smaller == move.width:
                return None
            move = _Move(move.kind, move.number, smaller)

    def _damage(self, move: _Move) -> float:
        """Return what a move loses; below zero for one that gives back."""
        if move.kind == "group":
            group, damage = self._candidates.groups[move.number], self._candidates.damage[move.number]
            return float(damage[group.width - move.width] - damage[group.width - self.widths[move.number]])
        inside = sum(self._lost_in(number) for number, home in enumerate(self._home) if home == move.number)
        return (self._candidates.blocks[move.number].damage - inside) * (1 if move.width == 0 else -1)

    def _lost_in(self, number: int) -> float:
        group = self._candidates.groups[number]
        return float(self._candidates.damage[number][group.width - self.widths[number]])

    def _current(self, move: _Move) -> int:
        return self.widths[move.number] if move.kind == "group" else self.present[move.number]

    def _put(self, move: _Move) -> None:
        (self.widths if move.kind == "group" else self.present)[move.number] = move.width

    def _touched(self, move: _Move) -> tuple[str, ...]:
        return self._layers[move.number] if move.kind == "group" else self._candidates.blocks[move.number].layers

    def _of_layers(self, limit: Limit, layers: Iterable[str]) -> float:
        return math.fsum(
            limit.prices[layer](self._part(layer, "in"), self._part(layer, "out"))
            for layer in layers
            if layer in limit.prices and self._is_present(layer)
        )

    def _is_present(self, layer: str) -> bool:
        number = self._block_of.get(layer)
        return number is None or bool(self.present[number])

    def _part(self, layer: str, side: str) -> float:
        """Return what is left of one side of a layer."""
        members = self._sides.get(layer, {}).get(side)
        if members is None:
            return 1.0
        groups = self._candidates.groups
        gone = sum(len(member.indices) * (1 - self.widths[number] / groups[number].width) for number, member in members)
        return 1 - gone / members[0][1].channels


def _unreachable(state: _State, limit: Limit, shape: Shape) -> ModelError:
    floor = f" and a floor of {shape.floor}" if shape.floor else ""
    return ModelError(
        f"prune.{limit.key} = {limit.keep:g}: widths in multiples of {shape.block}{floor} keep at least "
        f"{state.cost(limit) / limit.whole:.3f}",
        f"raise prune.{limit.key}",
    )
