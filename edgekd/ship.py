"""Which candidate is shipped: chosen on validation and by the clock, once, and written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnxruntime as ort

from edgekd import host as hosts
from edgekd.bench.measure import Measured, measure
from edgekd.errors import RecipeError
from edgekd.evaluate.stage import agree
from edgekd.quantize.divergence import Measure
from edgekd.quantize.stage import FLOAT, INT8
from edgekd.quantizing import Aim, Quantizer
from edgekd.recipe import Bench
from edgekd.runtime import settings_of
from edgekd.stage import Artifact
from edgekd.store import Store
from edgekd.target import Target

DROP = 0.10
"""What int8 may cost where no budget is set, as a fraction of the answers."""
DROP_OF_VARIANCE = 0.15
"""The same of outputs that are not classes, as a fraction of their variance. Of the files in
benchmarks/results/quantize-separation.json most that keep their task lose less, most that do not lose more."""
_COLLAPSE = 0.5
"""Of what the float parent knows beyond chance: int8 that costs more than this has collapsed."""
_NODES_TIMED = 8


def insists(text: str) -> bool:
    """Return what --ship says: whether int8 ships whatever it loses or takes. Raises RecipeError."""
    if text not in {"auto", "int8"}:
        raise RecipeError(f'--ship "{text}" is unknown', "auto: by the guards; int8: whatever it loses or takes")
    return text == "int8"


@dataclass(frozen=True)
class Shipped:
    """The candidate that goes into the bundle, and why."""

    candidates: Artifact
    file: str
    reason: str
    refused: Path | None = None
    """The int8 file that was made and is not shipped; None where it is, or none was made."""

    @property
    def precision(self) -> str:
        """int8, fp16 or float."""
        return self.file.removesuffix(".onnx")

    @property
    def path(self) -> Path:
        """The file itself."""
        return self.candidates.path / self.file

    @property
    def parent(self) -> Path:
        """The float file that it was made from."""
        return self.candidates.path / FLOAT

    @property
    def in_float(self) -> tuple[str, ...]:
        """The nodes that an accuracy budget kept in float."""
        return tuple(self.candidates.metrics.get("in_float", ())) if self.precision == "int8" else ()


@dataclass(frozen=True)
class Judge:
    """What candidates lose on validation, against what they may.

    Where training has seen those images, accuracy there means nothing; then what counts is disagreement with the
    float parent.
    """

    evaluate: Callable[[Path], Artifact]
    """An ONNX file on validation, as the target will answer."""
    teacher: Artifact
    val_was_seen: bool
    allowed: float | None
    """The recipe's or the target's max_accuracy_drop."""
    disagreement: Callable[[Path, Path], float] = lambda one, other: 1 - agree(one, other)
    """What part two evaluations differ in, by their files."""
    drop: float = DROP
    """What int8 may cost where no budget is set."""
    chance: float = 0.0
    """What a network that knows nothing reaches: one over the number of classes."""
    measure: Measure = field(default_factory=Measure)
    """By what nodes are ranked where some must stay in float."""
    words: Callable[[Artifact, str], str] = lambda candidates, file: "points on validation"
    """What a candidate's loss is a part of."""

    def lost(self, candidates: Artifact, file: str) -> float:
        """Return the points, as a fraction, that a candidate loses."""
        if self.val_was_seen:
            parent, found = self.evaluate(candidates.path / FLOAT), self.evaluate(candidates.path / file)
            return self.disagreement(parent.path, found.path)
        return float(self.teacher.metrics["top1"] - self.evaluate(candidates.path / file).metrics["top1"])

    def lost_by_float(self, candidates: Artifact) -> float:
        """Return what the float parent itself loses."""
        return 0.0 if self.val_was_seen else self.lost(candidates, FLOAT)

    def keeps(self, candidates: Artifact, file: str) -> bool:
        """Whether a candidate may ship, by `may_ship`."""
        lost_by_float = self.lost_by_float(candidates)
        right = 1.0 if self.val_was_seen else float(self.teacher.metrics["top1"]) - lost_by_float
        return may_ship(self.lost(candidates, file), lost_by_float, self.allowed, right - self.chance, self.drop)

    def excess(self, candidates: Artifact, file: str) -> float:
        """Return how many times what it may cost a candidate costs beside its float parent."""
        parent = self.lost_by_float(candidates)
        allowed = self.drop if self.allowed is None else max(self.allowed - parent, min(max(self.allowed, 0.0), DROP))
        return (self.lost(candidates, file) - parent) / max(allowed, 1e-6)

    def says_lost(self, candidates: Artifact, file: str) -> str:
        """Say how much a candidate loses, and of what."""
        return f"{100 * self.lost(candidates, file):.2f} {self.words(candidates, file)}"


def may_ship(lost: float, lost_by_float: float, allowed: float | None, known: float, drop: float = DROP) -> bool:
    """Whether a candidate that loses `lost` against the teacher may ship; all are fractions 0-1.

    What a candidate loses beyond its float parent is its cost. One that costs more than half of what that parent knows
    beyond chance (`known`) has collapsed, and no budget excuses that. Otherwise it ships within the budget. Where the
    float parent misses the budget too, int8 is not to blame for that: then its cost alone must be within the budget.
    Without a budget it may cost `drop`.
    """
    cost = lost - lost_by_float
    if cost > _COLLAPSE * max(known, 0.0):
        return False
    if allowed is None:
        return cost <= drop
    if lost_by_float > allowed:
        return cost <= min(max(allowed, 0.0), DROP)
    return lost <= allowed


def ship(
    store: Store,
    bench: Bench,
    target: Target,
    candidates: Artifact,
    quantizer: Quantizer | None,
    judge: Judge,
    insist: bool = False,
) -> Shipped:
    """Pick the first candidate that keeps the accuracy budget on validation and is no slower than float.

    Where int8 does not keep it, `quantizer` tries harder. With `insist` int8 ships all the same. Raises EdgekdError.
    """
    wanted = candidates.metrics["candidates"][0]
    if wanted == FLOAT:
        return Shipped(candidates, FLOAT, f"as the {'target' if target.precision == 'float' else 'recipe'} asks")
    for file in candidates.metrics["candidates"]:
        judge.evaluate(candidates.path / file).require()
    plain = Shipped(candidates, wanted, "")
    if judge.keeps(candidates, wanted):
        return _fast_enough(store, bench, target, plain, quantizer, insist)
    if insist:
        lost = judge.says_lost(candidates, wanted)
        return replace(plain, reason=f"as --ship asks, although {plain.precision} loses {lost}")
    if quantizer is not None and quantizer.config.effort != "thorough":
        # Nodes in float would make it slower still: what is slower already need not be made more exact.
        raced = _fast_enough(store, bench, target, plain, quantizer, insist)
        if raced.file == FLOAT:
            return raced
    improved = quantizer.improved(_aim(judge, wanted)) if quantizer is not None else None
    if improved is None:
        reason = f"{plain.precision} loses {judge.says_lost(candidates, wanted)}"
        return _float_instead(plain, reason)
    return _fast_enough(store, bench, target, Shipped(improved, wanted, ""), quantizer, insist)


def _float_instead(wanted: Shipped, reason: str) -> Shipped:
    return Shipped(wanted.candidates, FLOAT, reason, wanted.path if wanted.file == INT8 else None)


def _aim(judge: Judge, wanted: str) -> Aim:
    return Aim(lambda tried: judge.keeps(tried, wanted), lambda tried: judge.excess(tried, wanted), judge.measure)


def _fast_enough(
    store: Store, bench: Bench, target: Target, wanted: Shipped, quantizer: Quantizer | None, insist: bool
) -> Shipped:
    """Return it with what the clock says of it, or its float parent where that is faster."""
    times = _times_faster(store, bench, target, wanted, quantizer)
    if isinstance(times, str):
        reason = f"as the target asks{_effort(wanted)}; its speed is not judged here: {times}"
    elif times >= 1:
        reason = f"{times:.2f}× as fast as its float parent when it was chosen{_effort(wanted)}"
    else:
        reason = f"{wanted.precision} is slower here: {times:.2f}× the speed of float"
        if not insist:
            return _float_instead(wanted, reason)
        reason = f"as --ship asks, although {reason}"
    return replace(wanted, reason=reason)


def _times_faster(
    store: Store, bench: Bench, target: Target, wanted: Shipped, quantizer: Quantizer | None
) -> float | str:
    """Return how many times as fast as float it is here, measured once, or why this machine is not the target."""
    why_not = hosts.why_not(target.device, hosts.this())
    if why_not is not None:
        return why_not

    def faster() -> str:
        models = {"float": wanted.parent, "wanted": wanted.path}
        fed = quantizer.fed() if quantizer else {}
        run = measure(models, settings_of(target.runtime), bench, dict.fromkeys(models, fed))
        return repr(run.faster["wanted"].value)

    return float(store.choose("ship", _question(store, target, [wanted.parent, wanted.path]), faster))


def _effort(wanted: Shipped) -> str:
    if wanted.in_float:
        return f", with {len(wanted.in_float)} node(s) in float for the accuracy budget"
    learned = "optq" in wanted.candidates.metrics.get("rounding", ())
    return ", with learned rounding" if learned else ""


def _question(store: Store, target: Target, files: list[Path]) -> dict[str, Any]:
    return {
        "files": [store.digest(file) for file in files],
        "runtime": target.runtime.model_dump(mode="json"),
        "machine": hosts.this().name,
        "onnxruntime": ort.__version__,
    }


def cost_of_float(bench: Bench, target: Target, shipped: Shipped, quantizer: Quantizer | None) -> dict[str, float]:
    """Return what each node that stays in float costs in milliseconds, measured here, all in one interleaved run.

    Each is timed alone: the network with that node in float against the network with none; at most the first eight.
    """
    if quantizer is None or not shipped.in_float or hosts.why_not(target.device, hosts.this()) is not None:
        return {}
    whole = quantizer.with_in_float(()).path / shipped.file
    alone = {node: quantizer.with_in_float((node,)).path / shipped.file for node in shipped.in_float[:_NODES_TIMED]}
    models = {"": whole, **alone}
    run: Measured = measure(models, settings_of(target.runtime), bench, dict.fromkeys(models, quantizer.fed()))
    least = run.latency_ms[""].p50.value
    return {node: least / run.faster[node].value - least for node in alone}
