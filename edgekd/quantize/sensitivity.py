"""How much each node's integers cost, or each block's: one at a time is quantized, all others stay in float."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekd.quantize import qdq, settled, trial
from edgekd.quantize.calibrate import grids_of
from edgekd.quantize.divergence import Measure
from edgekd.quantize.entry import labels_of
from edgekd.quantize.feed import Feed, spread
from edgekd.quantize.grid import rounded_weight, weight_scales
from edgekd.quantize.observing import load
from edgekd.quantize.settled import Settled
from edgekd.quantize.trial import Answers
from edgekd.quantize.wiring import Wiring, copied
from edgekd.recipe import Quantize
from edgekd.ref import Ref
from edgekd.run import Progress, Run
from edgekd.stage import Metrics, stage
from edgekd.target import Int8

HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool"}
"""What is tried: operators whose integers may cost accuracy. Moves and activations follow their neighbours."""
_IMAGES = 32
_IMAGES_THOROUGH = 128


@dataclass(frozen=True)
class Cost:
    """What some nodes cost when they alone are quantized, 0-1, by the measure that decides what ships."""

    nodes: tuple[str, ...]
    lost: float


def nodes_of(found: Settled) -> tuple[str, ...]:
    """Return the nodes that may be tried, in the graph's order."""
    return tuple(
        node.name for node in found.model.graph.node if node.op_type in HEAVY and node.name not in found.in_float
    )


@stage(writes="sensitivity.json", version=4, tools=("onnx", "onnxruntime", "numpy"))
def sensitivity(  # noqa: PLR0913, PLR0917 - all that its key is made of
    out: Path,
    run: Run,
    repaired: Path,
    observed: Path,
    samples: Path,
    policy: Int8,
    config: Quantize,
    units: tuple[tuple[str, ...], ...],
    classes: tuple[str, ...],
    metric: Ref | None,
    kernels: str,
) -> Metrics:
    """Write per unit, a node or several, what is lost when it alone is quantized, worst first.

    With labels, also what top-1 loses; and what is lost by all nodes together, and by rounding the weights alone. What
    is lost is measured as it is where shipping is decided, but that scores of classes count as values: on a few images
    hardly any class flips.
    """
    found = settled.load(repaired)
    whole = found.entry.feed(samples)
    feed = whole.few(_IMAGES_THOROUGH if config.effort == "thorough" else _IMAGES, found.model)
    reference = trial.answers(found.model, feed)
    picked = _labels(samples, whole, feed)
    measure = Measure(classes, metric).smooth
    grids = grids_of(load(observed), found, policy, config)
    rows: list[dict[str, Any]] = []
    for number, unit in enumerate(units):
        run.show(Progress("sensitivity", number, len(units), unit[0]))
        alone = qdq.quantized(found.model, grids, {}, policy, found.in_float, frozenset(unit))
        answers = trial.answers(alone, feed)
        lost, noise = measure.lost(reference, answers), trial.sqnr(reference, answers)
        row = {"nodes": list(unit), "lost": round(lost, 9), "sqnr": round(noise, 3)}
        rows.append(row | _top1_lost(reference, answers, picked))
    rows.sort(key=lambda row: (-row["lost"], row["sqnr"], row["nodes"]))
    together = trial.answers(qdq.quantized(found.model, grids, {}, policy, found.in_float), feed)
    all_lost = {"lost": measure.lost(reference, together)}
    all_lost["by_weights"] = measure.lost(reference, _with_rounded_weights(found, policy, feed))
    out.write_text(json.dumps({"units": rows, **all_lost}, indent=1), encoding="utf-8")
    median = float(np.median([row["sqnr"] for row in rows])) if rows else None
    return {"units": len(rows), "worst": rows[:5], "median_sqnr": median, **all_lost}


def costs(file: Path) -> tuple[Cost, ...]:
    """Return what `sensitivity` wrote of each unit, the most damaging first."""
    rows = json.loads(file.read_text(encoding="utf-8"))["units"]
    return tuple(Cost(tuple(row["nodes"]), row["lost"]) for row in rows)


def part_of_weights(file: Path) -> float:
    """Return what part, 0-1, of all that is lost is lost when the weights alone are rounded."""
    found = json.loads(file.read_text(encoding="utf-8"))
    return min(1.0, found["by_weights"] / found["lost"]) if found["lost"] else 0.0


def _labels(samples: Path, whole: Feed, feed: Feed) -> NDArray[np.int64] | None:
    labels = labels_of(samples)
    return labels[spread(whole.count, feed.count)] if labels is not None else None


def _top1_lost(reference: Answers, answers: Answers, labels: NDArray[np.int64] | None) -> dict[str, Any]:
    """Return what the one output loses of top-1; nothing where there are no labels, or it is not scores of classes."""
    output = next(iter(reference))
    if labels is None or len(reference) != 1 or reference[output].ndim != 2:
        return {}
    # A graph whose batch is fixed leaves out what does not fill one.
    classes = labels[: len(reference[output])]
    before, after = ((each[output].argmax(1) == classes).mean() for each in (reference, answers))
    return {"top1_lost": round(float(before - after), 6)}


def _with_rounded_weights(found: Settled, policy: Int8, feed: Feed) -> Answers:
    """Return the answers of the float graph with its weights rounded to nearest."""
    wiring = Wiring(copied(found.model))
    for node in found.model.graph.node:
        weight = wiring.weight(node)
        if weight is not None and node.name not in found.in_float:
            wiring.set(node.input[1], rounded_weight(weight, weight_scales(weight, policy), policy))
    return trial.answers(wiring.model, feed)
