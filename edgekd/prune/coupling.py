"""Convolutions in groups: the channels that enter and those that leave go together, a whole group at a time."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from edgekd.models.channels import Group, Member
from edgekd.prune.shapes import depthwise


def coupled(groups: Sequence[Group], layers: dict[str, nn.Module]) -> tuple[list[Group], dict[str, str]]:
    """Merge groups that a convolution in groups binds; return all that can be cut, and of the rest why it cannot.

    A merged group's channels are whole groups of the convolution: `unit` channels of its root each.
    """
    done: list[Group] = []
    kept: dict[str, str] = {}
    seen: set[str] = set()
    for group in groups:
        if group.root in seen:
            continue
        bound = _bound(group, groups, layers)
        seen |= {each.root for each in bound}
        grouped = {path for each in bound for path in _grouped(each, layers)}
        if not grouped:
            done.append(group)
            continue
        why = _why_not(bound, grouped, layers)
        if why:
            kept |= {each.root: why for each in bound}
        else:
            done.append(_merged(bound, grouped, layers))
    return done, kept


def _grouped(group: Group, layers: dict[str, nn.Module]) -> list[str]:
    return [member.layer for member in group.members if _is_grouped(layers[member.layer])]


def _is_grouped(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups > 1 and not depthwise(layer)


def _bound(first: Group, groups: Sequence[Group], layers: dict[str, nn.Module]) -> list[Group]:
    """Return all groups that convolutions in groups bind to the first one, it included."""
    bound, paths = [first], set(_grouped(first, layers))
    while True:
        more = [each for each in groups if each not in bound and paths & set(_grouped(each, layers))]
        if not more:
            return bound
        bound += more
        paths |= {path for each in more for path in _grouped(each, layers)}


def _why_not(bound: list[Group], grouped: set[str], layers: dict[str, nn.Module]) -> str:
    some = min(grouped)
    counts = {layer.groups for path in grouped if isinstance(layer := layers[path], nn.Conv2d)}
    sides = {(member.layer, member.side) for each in bound for member in each.members if member.layer in grouped}
    if len(counts) > 1:
        return f"{some} and others are convolutions in different numbers of groups"
    if len(sides) < 2 * len(grouped):
        return f"{some} is a convolution in groups, and one side of it cannot be cut"
    in_order = all(
        member.indices == tuple(range(member.channels))
        for each in bound
        for member in each.members
        if member.layer in grouped
    )
    count = counts.pop()
    if not in_order or any(each.width % count for each in bound):
        return f"{some} is a convolution in groups, whose channels come in another order"
    return ""


def _merged(bound: list[Group], grouped: set[str], layers: dict[str, nn.Module]) -> Group:
    some = layers[min(grouped)]
    count = some.groups if isinstance(some, nn.Conv2d) else 1
    # What enters a convolution in groups goes with what leaves it: one side says it all.
    members: list[Member] = [
        member for each in bound for member in each.members if not (member.layer in grouped and member.side == "in")
    ]
    return Group(bound[0].root, count, tuple(members), unit=bound[0].width // count)
