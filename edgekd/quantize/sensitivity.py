"""How much each node's integers cost: one at a time is quantized, all others stay in float."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgekd.quantize import qdq, settled, trial
from edgekd.quantize.calibrate import grids_of
from edgekd.quantize.entry import labels_of
from edgekd.quantize.feed import spread
from edgekd.quantize.observing import load
from edgekd.recipe import Quantize
from edgekd.run import Progress, Run
from edgekd.store import Metrics, stage
from edgekd.target import Int8

HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool"}
"""What is tried: operators whose integers may cost accuracy. Moves and activations follow their neighbours."""
_IMAGES = 128


@stage(writes="sensitivity.json", version=1, tools=("onnx", "onnxruntime", "numpy"))
def sensitivity(
    out: Path, run: Run, repaired: Path, observed: Path, samples: Path, policy: Int8, config: Quantize, kernels: str
) -> Metrics:
    """Write per node the SQNR in dB when it alone is quantized, worst first, and with labels what top-1 loses.

    One pass over the nodes, always in the graph's order, on images spread evenly over the calibration set.
    """
    found = settled.load(repaired)
    whole = found.entry.feed(samples)
    feed = whole.few(_IMAGES, found.model)
    reference = trial.answers(found.model, feed)
    labels = labels_of(samples)
    picked = labels[spread(whole.count, feed.count)] if labels is not None else None
    grids = grids_of(load(observed), found, policy, config)
    nodes = [node.name for node in found.model.graph.node if node.op_type in HEAVY and node.name not in found.in_float]
    rows = []
    for number, name in enumerate(nodes):
        run.show(Progress("sensitivity", number, len(nodes), name))
        alone = qdq.quantized(found.model, grids, {}, policy, found.in_float, frozenset({name}))
        answers = trial.answers(alone, feed)
        row = {"node": name, "sqnr": round(trial.sqnr(reference, answers), 3)}
        if picked is not None and len(reference) == 1:
            output = next(iter(reference))
            if reference[output].ndim == 2:
                # A graph whose batch is fixed leaves out what does not fill one.
                classes = picked[: len(reference[output])]
                right = [(each[output].argmax(1) == classes).mean() for each in (reference, answers)]
                row["top1_lost"] = round(float(right[0] - right[1]), 6)
        rows.append(row)
    rows.sort(key=lambda row: (row["sqnr"], row["node"]))
    out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return {"nodes": len(rows), "worst": rows[:5], "median_sqnr": float(np.median([row["sqnr"] for row in rows]))}


def worst(file: Path) -> list[str]:
    """Return the nodes that `sensitivity` wrote, the most damaging first."""
    return [row["node"] for row in json.loads(file.read_text(encoding="utf-8"))]
