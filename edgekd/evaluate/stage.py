"""The stage `evaluate`: an ONNX file on a split, as logits and top-1."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekd import runtime
from edgekd.evaluate.accuracy import agreement, top1
from edgekd.run import Progress, Run
from edgekd.runtime import Settings
from edgekd.stage import Metrics, stage
from edgekd.workload import arrays

_BATCH = 250


@stage(writes="logits.npy", version=1, tools=("onnxruntime", "numpy"))
def evaluate(out: Path, run: Run, graph: Path, split: Path, settings: Settings, instructions: str) -> Metrics:
    """Write the logits, float32 [N, classes]; return top-1 with its interval.

    `instructions` names the CPU's instruction set: float sums differ between them, so it belongs to the key.
    """
    data = arrays.load(split)
    session = runtime.open_session(graph, settings)
    parts = []
    for start in range(0, len(data.labels), _BATCH):
        parts.append(runtime.run(session, data.images[start : start + _BATCH], _BATCH))
        run.show(Progress("evaluate", start + len(parts[-1]), len(data.labels), split.name))
    logits = np.concatenate(parts)
    np.save(out, logits)
    return top1(logits, data.labels).model_dump()


def agree(one: Path, other: Path) -> float:
    """Return the agreement of two logits files."""
    return agreement(np.load(one), np.load(other))
