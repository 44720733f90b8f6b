"""Which candidate is shipped: chosen on validation and by the clock, once, and written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from edgekd import host as hosts
from edgekd.bench.measure import measure
from edgekd.evaluate.stage import agree
from edgekd.quantize.stage import FLOAT
from edgekd.recipe import Recipe
from edgekd.runtime import settings_of
from edgekd.store import Artifact, Store
from edgekd.target import Target

_COLLAPSE = 0.10


@dataclass(frozen=True)
class Shipped:
    """The candidate that goes into the bundle, and why."""

    file: str
    reason: str

    @property
    def precision(self) -> str:
        """int8, fp16 or float."""
        return self.file.removesuffix(".onnx")


def ship(
    store: Store,
    recipe: Recipe,
    target: Target,
    candidates: Path,
    logits: Mapping[str, Artifact],
    teacher: Artifact,
    val_was_seen: bool,
) -> Shipped:
    """Pick the first candidate that keeps the accuracy budget on validation and is no slower than float.

    `logits` are the candidates evaluated on validation, best first. Where training has seen those images, accuracy
    there means nothing; then what may be lost is disagreement with the float parent.
    """
    wanted = next(iter(logits))
    if wanted == FLOAT:
        return Shipped(FLOAT, f"as the {'target' if target.precision == 'float' else 'recipe'} asks")
    budget = recipe.budget.over(target.budget).max_accuracy_drop
    lost = _lost(logits[FLOAT], logits[wanted], teacher, val_was_seen)
    lost_float = 0.0 if val_was_seen else store.metrics(teacher)["top1"] - store.metrics(logits[FLOAT])["top1"]
    # Without a budget a net that lost its mind is still not handed on.
    budget = budget if budget is not None else max(_COLLAPSE, lost_float)
    if lost > budget >= lost_float:
        return Shipped(FLOAT, f"{wanted.removesuffix('.onnx')} loses {100 * lost:.2f} points on validation")
    here = hosts.this()
    why_not = hosts.why_not(target.device, here)
    if why_not is not None:
        return Shipped(wanted, f"as the target asks; its speed is not judged here: {why_not}")

    def faster() -> str:
        run = measure(
            {"float": candidates / FLOAT, "wanted": candidates / wanted}, settings_of(target.runtime), recipe.bench
        )
        return repr(run.faster["wanted"].value)

    question = {
        "float": store.digest(candidates / FLOAT),
        "wanted": store.digest(candidates / wanted),
        "runtime": target.runtime.model_dump(mode="json"),
        "machine": here.name,
        "onnxruntime": ort.__version__,
    }
    times = float(store.choose("ship", question, faster))
    precision = wanted.removesuffix(".onnx")
    if times < 1:
        return Shipped(FLOAT, f"{precision} is slower here: {times:.2f}× the speed of float")
    return Shipped(wanted, f"{times:.2f}× as fast as its float parent when it was chosen")


def _lost(parent: Artifact, candidate: Artifact, teacher: Artifact, val_was_seen: bool) -> float:
    if val_was_seen:
        return 1 - agree(parent.path, candidate.path)
    return float(teacher.metrics["top1"] - candidate.metrics["top1"])
