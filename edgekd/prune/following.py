"""Was each cut channel followed to every layer that reads it? Asked of the network itself, before anything is kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekd.errors import first_line
from edgekd.models import network
from edgekd.models.channels import Member, weight_of
from edgekd.prune.candidates import Cut
from edgekd.prune.slicing import cut_channels

_TOLERANCE = 1e-3


def cut_out(whole: nn.Module, cuts: Sequence[Cut], blocks: Sequence[str]) -> nn.Module:
    """Return a copy of the module without these channels and blocks."""
    narrow = copy.deepcopy(whole)
    cut_channels(narrow, cuts)
    for path in blocks:
        network.remove(narrow, path)
    return narrow


def why_lost(
    whole: nn.Module, narrow: nn.Module, shape: tuple[int, int], cuts: Sequence[Cut], blocks: Sequence[str]
) -> str:
    """Return why the narrow network does not answer as the whole one whose cut channels nobody reads; or nothing.

    Where every reader of a channel takes it with weight zero, cutting it changes nothing, whatever lies between. A
    forward that hard-codes a width does not run; an operator that mixes channels, or one that was followed wrongly,
    gives another answer.
    """
    image = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    try:
        answer = _run(narrow, image)
    except Exception as error:
        # The user's own forward: it may raise anything.
        reason = first_line(error)
        return f"the network does not run without them: {reason}"
    unread = copy.deepcopy(whole)
    for cut in cuts:
        for member in cut.group.members:
            _ignore(unread.get_submodule(member.layer), member, cut)
    for path in blocks:
        network.remove(unread, path)
    wanted = _run(unread, image)
    if answer.shape != wanted.shape:
        return f"the network's output would be {list(answer.shape[1:])} in place of {list(wanted.shape[1:])}"
    difference = float((answer - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
    # Random weights may answer with infinities, of which nothing can be told.
    if wanted.isfinite().all() and not difference <= _TOLERANCE:
        return "they are mixed with others, or come out at another place than they went in"
    return ""


def not_followed(
    whole: nn.Module, shape: tuple[int, int], cuts: Sequence[Cut], blocks: Sequence[str]
) -> dict[str, str]:
    """Return what alone cannot be cut, and why: groups by their root, blocks by their path."""
    alone = [(cut.group.root, [cut], list[str]()) for cut in cuts] + [(path, list[Cut](), [path]) for path in blocks]
    reasons = {name: why_lost(whole, cut_out(whole, some, paths), shape, some, paths) for name, some, paths in alone}
    return {name: why for name, why in reasons.items() if why}


@torch.inference_mode()
def _run(module: nn.Module, image: Tensor) -> Tensor:
    answer: Tensor = module.eval()(image)
    return answer


@torch.no_grad()
def _ignore(layer: nn.Module, member: Member, cut: Cut) -> None:
    """Let a layer read these channels with weight zero."""
    weight = weight_of(layer)
    if weight is None or member.side != "in" or weight.shape[1] != member.channels:
        return
    weight[:, cut.group.indices(member, cut.channels)] = 0
