"""report.json comes back as it was written."""

import json

import pytest
from pydantic import ValidationError

from edgekd.report.contents import LatencyRow, Measured, Report, StageRow, Verdict


def row(model: str, p50: float, interval: tuple[float | None, float | None] = (0.9, 1.1)) -> LatencyRow:
    return LatencyRow(
        model=model,
        p50_ms=p50,
        p50_interval=interval,
        p90_ms=2 * p50,
        p90_interval=(None, None),
        times_faster_than_teacher=1 / p50,
        times_interval=(None, None),
    )


def report() -> Report:
    measured = Measured(
        machine="a cpu",
        onnxruntime="1.20.0",
        provider="CPUExecutionProvider",
        threads=1,
        rounds=60,
        rows=(row("t", 1.0),),
    )
    return Report(
        name="toy",
        target="cpu",
        precision="int8",
        shipped_because="smallest",
        accuracy=(StageRow(stage="teacher", top1=0.9, low=0.85, high=0.95, images=100, size_kb=10.5),),
        agreement_with_float=0.99,
        latency=measured,
        latency_missing_because="",
        this_host=None,
        operators={"QLinearConv": 3},
        operators_in_float={},
        budgets=(
            Verdict(budget="min_accuracy", asked=0.95, got=0.9, state="missed"),
            Verdict(budget="max_latency_ms", asked=5.0, got=None, state="unjudged"),
            Verdict(budget="max_size_kb", asked=50.0, got=10.5, state="met"),
        ),
        costliest="",
        data={"classes": ["a", "b"]},
        training={"losses": [1.0, 0.5]},
        seeds=(),
        pruning={},
        front={"front_exact": True},
        quantization={"calibrator": "min-max"},
        notes=("n",),
    )


def test_json_round_trip_gives_an_equal_report() -> None:
    assert Report.model_validate_json(report().model_dump_json()) == report()
    assert json.loads(report().model_dump_json())["format"] == 1


def test_missed_and_unjudged_are_told_apart() -> None:
    assert [verdict.budget for verdict in report().missed] == ["min_accuracy"]
    assert [verdict.budget for verdict in report().unjudged] == ["max_latency_ms"]


def test_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="surprise"):
        Report.model_validate({**report().model_dump(), "surprise": 1})
