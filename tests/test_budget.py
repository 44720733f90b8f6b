"""Verdicts follow from numbers alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.budget import Reached, costliest, judge, judge_kept
from edgekd.recipe import Budget

REACHED = Reached(accuracy=0.90, teacher_accuracy=0.95, latency_ms=2.0, size_kb=100.0)
fractions = st.floats(0, 1)


def states(budget: Budget, reached: Reached = REACHED) -> dict[str, str]:
    return {verdict.name: verdict.state for verdict in judge(budget, reached)}


def test_no_budget_gives_no_verdict() -> None:
    assert judge(Budget(), REACHED) == ()


def test_each_budget_is_met_at_its_very_limit() -> None:
    budget = Budget(min_accuracy=0.90, max_accuracy_drop=0.05, max_latency_ms=2.0, max_size_kb=100.0)
    assert set(states(budget).values()) == {"met"}
    assert len(states(budget)) == 4


def test_each_budget_is_missed_just_past_its_limit() -> None:
    budget = Budget(min_accuracy=0.9001, max_accuracy_drop=0.0499, max_latency_ms=1.999, max_size_kb=99.9)
    assert list(states(budget).values()) == ["missed"] * 4


def test_without_a_latency_its_budget_alone_is_unjudged() -> None:
    budget = Budget(min_accuracy=0.5, max_latency_ms=1.0)
    reached = replace(REACHED, latency_ms=None)
    assert states(budget, reached) == {"min_accuracy": "met", "max_latency_ms": "unjudged"}


def test_a_verdict_as_json_has_what_was_asked_and_got() -> None:
    (verdict,) = judge(Budget(max_size_kb=50.0), REACHED)
    assert verdict.as_json() == {"name": "max_size_kb", "asked": 50.0, "got": 100.0, "state": "missed"}


def test_a_student_better_than_its_teacher_meets_a_negative_drop() -> None:
    reached = replace(REACHED, accuracy=0.97)
    assert states(Budget(max_accuracy_drop=-0.01), reached) == {"max_accuracy_drop": "met"}


@given(asked=fractions, accuracy=fractions, better=fractions)
def test_more_accuracy_never_turns_met_into_missed(asked: float, accuracy: float, better: float) -> None:
    budget = Budget(min_accuracy=asked)
    low, high = sorted((accuracy, better))
    if states(budget, replace(REACHED, accuracy=low))["min_accuracy"] == "met":
        assert states(budget, replace(REACHED, accuracy=high))["min_accuracy"] == "met"


@given(asked=st.floats(0.001, 1e6), got=st.floats(0, 1e6))
def test_an_upper_budget_is_met_exactly_where_the_number_is_no_larger(asked: float, got: float) -> None:
    (verdict,) = judge(Budget(max_size_kb=asked), replace(REACHED, size_kb=got))
    assert (verdict.state == "met") == (got <= asked + 1e-9)


def test_the_costliest_stage_is_named_with_its_points() -> None:
    accuracies = [("teacher", 0.95), ("distill", 0.94), ("prune", 0.90), ("quantize", 0.895)]
    assert costliest(accuracies) == "prune cost most (4.00 points)"


@pytest.mark.parametrize("accuracies", [[], [("teacher", 0.9)], [("teacher", 0.9), ("distill", 0.91)]])
def test_where_no_stage_lost_accuracy_none_is_blamed(accuracies: list[tuple[str, float]]) -> None:
    assert costliest(accuracies) == "no stage lost accuracy"


@pytest.mark.parametrize(("got", "state"), [(0.5, "met"), (0.524, "met"), (0.526, "missed"), (None, "unjudged")])
def test_a_part_of_a_measured_time_is_met_within_5_percent(got: float | None, state: str) -> None:
    verdict = judge_kept("prune.keep_latency", 0.5, got)
    assert (verdict.asked, verdict.got, verdict.state) == (0.5, got, state)
