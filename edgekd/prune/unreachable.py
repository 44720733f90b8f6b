"""Why a budget of pruning cannot be reached, in a user's words: what would lower the least, and what stays whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgekd.errors import listed
from edgekd.prune.candidates import Candidates, Limit, Shape
from edgekd.prune.search import narrowest

_WORDS = {"keep_macs": "work", "keep_params": "parameters", "keep_latency": "latency"}
_MATTERS = 0.005
"""A least that is lower by no more than this is not worth another setting."""
_NAMED = 3


def missed(candidates: Candidates, limits: Sequence[Limit], shape: Shape) -> Limit:
    """Return the first limit that no choice among the candidates reaches."""
    return next((each for each in limits if narrowest(candidates, each, shape)[1] > each.keep), limits[-1])


def others(shape: Shape) -> dict[str, Shape]:
    """Return what else could be admissible, by what to write for it."""
    found = {
        f"prune.block, now {shape.block}: with 1": Shape(1, shape.floor),
        f"prune.floor, now {shape.floor}: with 0": Shape(shape.block),
    }
    return {words: other for words, other in found.items() if other != shape}


def hint(limit: Limit, least: float, lower: Mapping[str, float], whole: Mapping[str, str]) -> str:
    """Return what to do about a limit of which `least` stays.

    `lower` is what would stay under `others`, by their words; `whole` says why layers keep all their channels.
    """
    better = [f"lower {words} at least {part:.3f} stays" for words, part in lower.items() if part < least - _MATTERS]
    advice = "; or ".join([f"raise prune.{limit.key} to {math.ceil(least * 1000) / 1000:.3f} or more", *better])
    return f"{advice}{_stays(limit, whole)}"


def _stays(limit: Limit, whole: Mapping[str, str]) -> str:
    """Say which layers keep all their channels and why, with their part of the cost: the largest first."""
    parts: dict[str, dict[str, float]] = {}
    for layer, price in limit.prices.items():
        if layer in whole:
            parts.setdefault(whole[layer], {})[layer] = price(1.0, 1.0) / limit.whole
    text = ""
    for why, layers in sorted(parts.items(), key=lambda each: -sum(each[1].values()))[:_NAMED]:
        share = sum(layers.values())
        named = sorted(layers, key=lambda layer: -layers[layer])
        if share >= _MATTERS:
            who = f"{listed(named, _NAMED)} ({100 * share:.0f} % of the {_WORDS[limit.key]})"
            text += f"; {who} keep all their channels: {why}"
    return text
