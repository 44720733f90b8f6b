"""The lines that a terminal shows."""

from typing import Any

import pytest

from edgekd.report.contents import LatencyRow, Measured, Report, Spread, StageRow, Verdict
from edgekd.report.text import lines, measured_lines


def measured(rows: tuple[LatencyRow, ...] | None = None, threads: int = 1) -> Measured:
    taken = rows or (row("teacher", 4.0, 1.0, (1.0, 1.0)), row("shipped", 1.25, 3.2, (3.1, 3.3)))
    return Measured(
        machine="Some CPU, 4 cores", onnxruntime="1.20.0", provider="CPU", threads=threads, rounds=60, rows=taken
    )


def row(
    model: str,
    p50: float,
    times: float,
    times_interval: tuple[float | None, float | None],
    interval: tuple[float | None, float | None] = (1.2, 1.3),
) -> LatencyRow:
    return LatencyRow(
        model=model,
        p50_ms=p50,
        p50_interval=interval,
        p90_ms=2 * p50,
        p90_interval=(None, None),
        times_faster_than_teacher=times,
        times_interval=times_interval,
    )


def report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "name": "toy",
        "target": "arm64",
        "precision": "int8",
        "shipped_because": "it is fastest",
        "accuracy": (
            StageRow(stage="teacher", top1=0.9123, low=0.9, high=0.92, images=250, size_kb=1078.4),
            StageRow(stage="int8", top1=0.9, low=0.88, high=0.91, images=250, size_kb=98.7),
        ),
        "agreement_with_float": 0.9876,
        "latency": measured(),
        "latency_missing_because": "",
        "this_host": None,
        "operators": {},
        "operators_in_float": {},
        "budgets": (),
        "costliest": "prune cost most (1.23 points)",
        "data": {},
        "training": {},
        "seeds": (),
        "pruning": {},
        "front": {},
        "quantization": {},
        "notes": (),
    }
    return Report(**{**values, **changes})


def one(text: list[str], part: str) -> str:
    found = [line for line in text if part in line]
    assert len(found) == 1
    return found[0]


def test_missed_budget_has_a_line_that_names_the_costliest_stage() -> None:
    missed = Verdict(budget="min_accuracy", asked=0.95, got=0.9, state="missed")
    line = one(lines(report(budgets=(missed,))), "budget")
    assert line == "  budget missed: min_accuracy asked 0.95, got 0.9; prune cost most (1.23 points)"


@pytest.mark.parametrize(
    ("state", "got", "wanted"),
    [
        ("met", 98.7, "  budget met: max_size_kb asked 120, got 98.7"),
        ("unjudged", None, "  budget unjudged: max_size_kb asked 120, got not measured"),
    ],
)
def test_budget_that_was_not_missed_blames_no_stage(state: Any, got: float | None, wanted: str) -> None:
    verdict = Verdict(budget="max_size_kb", asked=120.0, got=got, state=state)
    assert one(lines(report(budgets=(verdict,))), "budget") == wanted


def test_every_stage_has_a_row_with_percent_interval_and_size() -> None:
    text = lines(report())
    assert one(text, "1078.4").split() == ["teacher", "91.23", "%", "90.00", "–", "92.00", "%", "1078.4", "kB"]
    assert one(text, "98.7 kB").split()[:2] == ["int8", "90.00"]
    assert "on 250 test images" in one(text, "agrees with its float parent on 98.76 %")


def test_columns_of_the_accuracy_table_line_up() -> None:
    table = lines(report())[2:5]
    assert {len(line) for line in table} == {54}
    assert table[0].index("95 %") == table[1].index("90.00 –") == table[2].index("88.00 –")


def test_latency_rows_show_interval_and_ratio() -> None:
    text = measured_lines(measured())
    assert text[0] == "  Some CPU, 4 cores, 1 thread, onnxruntime 1.20.0, batch 1, interleaved"
    assert text[2].endswith("1.00×")
    assert "1.250 ms   1.200 – 1.300" in text[3]
    assert text[3].endswith("2.500 ms   3.20× (3.10 – 3.30)")


def test_too_few_rounds_are_said() -> None:
    text = measured_lines(measured((row("teacher", 4.0, 1.0, (None, None), (None, None)),), threads=2))
    assert "2 threads" in text[0]
    assert "too few rounds" in text[2]


def test_p90_that_the_rounds_cannot_support_is_a_dash_in_its_column() -> None:
    supported = row("teacher", 4.0, 1.0, (1.0, 1.0))
    text = measured_lines(measured((supported, supported.model_copy(update={"p90_ms": None}))))
    assert text[2].replace("8.000 ms", "       –") == text[3]


def test_latency_that_was_not_measured_says_why_and_shows_this_host() -> None:
    text = lines(report(latency=None, latency_missing_because="this machine is x86_64", this_host=measured()))
    assert "  latency on arm64: not measured, this machine is x86_64" in text
    assert one(text, "not the target: ").startswith("  not the target: Some CPU")


def test_notes_are_shown_and_no_line_ends_in_white_space() -> None:
    text = lines(report(notes=("validation was seen",)))
    assert "  note: validation was seen" in text
    assert all(line == line.rstrip() and "\n" not in line for line in text)


def test_seeds_are_shown_as_mean_and_spread() -> None:
    spread = Spread(row="student", top1=(0.92, 0.925, 0.93), mean=0.925, deviation=0.005)
    found = lines(report(seeds=(spread,)))
    assert "  student over 3 seeds: 92.50 % ± 0.50; the first seed's goes on" in found
