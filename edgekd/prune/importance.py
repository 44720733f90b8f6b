"""How much a channel matters, from the weights alone."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from edgekd.prune.groups import Group, Member, weight_of


def of_group(group: Group, module: nn.Module, norm: Literal["l1", "l2"], frozen: frozenset[str]) -> Tensor:
    """Return the importance of each channel of a group, float64 [width].

    The norm of the weights that make or read the channel (Li et al. 2016, arXiv:1608.08710; grouped as in Fang et
    al. 2023), each layer scaled to a mean of 1 over the group's channels, summed over the group's layers: what is
    read by many layers matters more. Frozen layers carry no learnt weight and do not count.
    """
    layers = dict(module.named_modules())
    total = torch.zeros(group.width, dtype=torch.float64)
    for member in group.members:
        weight = weight_of(layers[member.layer])
        if weight is None or member.layer in frozen:
            continue
        total += _scaled(_norms(weight, member, group.width, norm))
    return total


def _norms(weight: Tensor, member: Member, width: int, norm: Literal["l1", "l2"]) -> Tensor:
    rows = weight if member.side == "out" else weight.transpose(0, 1)
    # A depthwise weight has one input: both sides are its rows.
    rows = weight if len(rows) < len(member.indices) else rows
    chosen = rows[list(member.indices)].double().flatten(1).reshape(width, -1)
    return chosen.abs().sum(1) if norm == "l1" else chosen.square().sum(1).sqrt()


def _scaled(norms: Tensor) -> Tensor:
    return norms / norms.mean().clamp_min(1e-12)
