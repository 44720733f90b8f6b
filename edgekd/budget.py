"""Budgets, judged: numbers in, verdicts out."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edgekd.recipe import Budget

_NEAR = 0.05


@dataclass(frozen=True)
class Reached:
    """What a build reached. Accuracies are fractions 0-1; None where it could not be measured."""

    accuracy: float
    teacher_accuracy: float
    latency_ms: float | None
    size_kb: float


@dataclass(frozen=True)
class Verdict:
    """One budget: asked, got, and whether it was met."""

    name: str
    asked: float
    got: float | None
    state: Literal["met", "missed", "unjudged"]

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as a JSON object."""
        return asdict(self)


def judge(budget: Budget, reached: Reached) -> tuple[Verdict, ...]:
    """Return a verdict for each budget that is set; one that has no number is `unjudged`."""
    drop = reached.teacher_accuracy - reached.accuracy
    rows: list[tuple[str, float | None, float | None, bool]] = [
        ("min_accuracy", budget.min_accuracy, reached.accuracy, False),
        ("max_accuracy_drop", budget.max_accuracy_drop, drop, True),
        ("max_latency_ms", budget.max_latency_ms, reached.latency_ms, True),
        ("max_size_kb", budget.max_size_kb, reached.size_kb, True),
    ]
    return tuple(_verdict(name, asked, got, upper) for name, asked, got, upper in rows if asked is not None)


def judge_kept(name: str, asked: float, got: float | None) -> Verdict:
    """Return the verdict on a part that may stay of a measured time, which is met within 5 %."""
    found = _verdict(name, asked * (1 + _NEAR), got, upper=True)
    return Verdict(name, asked, got, found.state)


def _verdict(name: str, asked: float, got: float | None, upper: bool) -> Verdict:
    if got is None:
        return Verdict(name, asked, None, "unjudged")
    met = got <= asked + 1e-9 if upper else got >= asked - 1e-9
    return Verdict(name, asked, got, "met" if met else "missed")


def costliest(accuracies: list[tuple[str, float]]) -> str:
    """Return the stage that lost most accuracy, out of (stage, accuracy after it) in order, in words."""
    losses = [(before - after, stage) for (_, before), (stage, after) in itertools.pairwise(accuracies)]
    if not losses or max(losses)[0] <= 0:
        return "no stage lost accuracy"
    loss, stage = max(losses)
    return f"{stage} cost most ({100 * loss:.2f} points)"
