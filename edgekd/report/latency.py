"""An interleaved run, as a report shows it."""

from __future__ import annotations

from edgekd.bench import measure as bench
from edgekd.report.contents import LatencyRow, Measured


def as_report(run: bench.Measured) -> Measured:
    """Return an interleaved run as a report shows it; times are against the first model."""
    rows = []
    for name, latency in run.latency_ms.items():
        times = run.faster[name]
        rows.append(
            LatencyRow(
                model=name,
                p50_ms=latency.p50.value,
                p50_interval=(latency.p50.low, latency.p50.high),
                p90_ms=latency.p90.value if latency.p90 else None,
                p90_interval=(latency.p90.low, latency.p90.high) if latency.p90 else (None, None),
                times_faster_than_teacher=times.value,
                times_interval=(times.low, times.high),
            )
        )
    return Measured(
        machine=run.machine,
        onnxruntime=run.onnxruntime,
        provider=run.provider,
        threads=run.threads,
        rounds=run.rounds,
        rows=tuple(rows),
    )
