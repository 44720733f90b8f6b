"""A measurement becomes rows of the report, number by number."""

from edgekd.bench.measure import Measured
from edgekd.bench.statistics import Latency, Quantile
from edgekd.report.latency import as_report


def quantile(value: float, low: float | None = None, high: float | None = None) -> Quantile:
    return Quantile(value=value, low=low, high=high)


def test_rows_keep_order_numbers_and_intervals() -> None:
    run = Measured(
        machine="m",
        onnxruntime="1.2.3",
        provider="P",
        threads=2,
        rounds=7,
        latency_ms={
            "teacher": Latency(p50=quantile(4, 3, 5), p90=None, calls=35),
            "shipped": Latency(p50=quantile(1, 0.5, 1.5), p90=quantile(2, 1, 3), calls=35),
        },
        faster={"teacher": quantile(1, 1, 1), "shipped": quantile(4, 3.5, 4.5)},
    )
    report = as_report(run)
    assert (report.machine, report.onnxruntime, report.provider, report.threads, report.rounds) == (
        "m",
        "1.2.3",
        "P",
        2,
        7,
    )
    assert [row.model for row in report.rows] == ["teacher", "shipped"]
    shipped = report.rows[1]
    assert (shipped.p50_ms, shipped.p50_interval) == (1, (0.5, 1.5))
    assert (shipped.p90_ms, shipped.p90_interval) == (2, (1, 3))
    assert (report.rows[0].p90_ms, report.rows[0].p90_interval) == (None, (None, None))
    assert (shipped.times_faster_than_teacher, shipped.times_interval) == (4, (3.5, 4.5))
