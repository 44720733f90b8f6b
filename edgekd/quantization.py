"""How int8 was made, as the report keeps it and as its notes say it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.ship import Shipped
from edgekd.stage import Artifact
from edgekd.target import Target


def front_of(repaired: Artifact | None) -> dict[str, Any]:
    """Return what absorbing the front came to; empty where no int8 was made."""
    return {key: value for key, value in (repaired.metrics if repaired else {}).items() if key.startswith("front")}


def of(
    shipped: Shipped, repaired: Artifact | None, cost: Mapping[str, float], study: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Return what the report keeps; empty where no int8 was made."""
    if repaired is None:
        return {}
    made = {key: value for key, value in shipped.candidates.metrics.items() if key != "candidates"}
    done = {key: value for key, value in repaired.metrics.items() if key not in front_of(repaired)}
    drawn = {"study": [dict(each) for each in study]} if study else {}
    return {**done, **made, "float_costs_ms": dict(cost), **drawn}


def notes(
    target: Target,
    shipped: Shipped,
    repaired: Artifact | None,
    cost: Mapping[str, float],
    study: Sequence[Mapping[str, float]],
) -> list[str]:
    """Return a line for each thing that a user would want to know of an int8 or fp16 file."""
    if repaired is None:
        beyond = shipped.candidates.metrics.get("beyond_float16", []) if shipped.precision == "fp16" else []
        return [f"in float32, since float16 cannot hold their values: {', '.join(beyond)}"] if beyond else []
    made = shipped.candidates.metrics
    found = [_how(made, repaired.metrics)]
    found += _kept(repaired.metrics)
    clipped = made["saturation"]
    if clipped["clipped"] and target.device.architecture == "x86_64":
        part = clipped["clipped"] / clipped["sums"]
        found.append(
            f"on x86 without VNNI {clipped['clipped']} of {clipped['sums']} sums of two products ({part:.1e}) would "
            f"have been clipped, most in {clipped['layers'][0]}: for such machines take 7-bit weights (target cpu)"
        )
    if shipped.in_float:
        named = [f"{node} (+{cost[node]:.3f} ms)" if node in cost else node for node in shipped.in_float]
        found.append(f"in float for the accuracy budget: {', '.join(named)}")
    if study:
        tops = [100 * each["top1"] for each in study]
        agreed = [100 * each["agreement"] for each in study]
        found.append(
            f"{len(study)} other draws of calibration images: top-1 on validation {min(tops):.2f} – {max(tops):.2f} % "
            f"(deviation {statistics.pstdev(tops):.2f}), agreement with float {min(agreed):.2f} – {max(agreed):.2f} %"
        )
    return found


def _kept(repaired: Mapping[str, Any]) -> list[str]:
    """Say what stays in float in any case: around joins behind the last layers, and what the user named."""
    found = []
    if joins := repaired.get("joins", []):
        widest = max(joins, key=lambda join: join["largest"] / join["smallest"])
        around = len(repaired["float_around_joins"])
        found.append(
            f"in float behind the last layers: {around} nodes around {widest['node']}, which joins values up to "
            f"{widest['largest']:.3g} with values up to {widest['smallest']:.2g}; its parts keep their own qparams"
        )
    if named := repaired.get("float_by_name", []):
        found.append(f"in float as quantize.float asks: {', '.join(named[:8])}{', …' if len(named) > 8 else ''}")
    return found


def _types(policy: Mapping[str, Any]) -> str:
    """Say what the integers are, and why weights have seven bits where they have."""
    bits = "7-bit" if policy["reduce_range"] else "8-bit"
    why = ", which no x86 CPU clips" if policy["reduce_range"] else ""
    symmetric = " symmetric" if policy["symmetric"] else ""
    per = "channel" if policy["per_channel"] else "tensor"
    return f"{policy['activations']}{symmetric} activations, {bits} {policy['weights']} weights per {per}{why}"


def _how(made: Mapping[str, Any], repaired: Mapping[str, Any]) -> str:
    """Say the calibrator and the repairs with their gains on calibration images."""
    before = repaired.get("repairs_sqnr", {})
    steps = [f"{name} {before[name] - before['none']:+.1f} dB" for name in repaired["repairs"] if name in before]
    after = made["rounding_sqnr"]
    steps += [
        f"{'learned rounding' if name == 'optq' else name} {after[name] - after['nearest']:+.1f} dB"
        for name in made["rounding"]
    ]
    over = f"{made['calibrator']} over {made['images']} images"
    return f"int8: {_types(made['policy'])}; {over}; repairs: {', '.join(steps) or 'none helped'}"
