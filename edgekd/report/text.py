"""A report as lines of text, for a terminal and a log alike."""

from __future__ import annotations

from edgekd.report.contents import LatencyRow, Measured, Report, Spread, Verdict


def lines(report: Report) -> list[str]:
    """Return the report as lines without trailing newlines."""
    text = [f"{report.name} for {report.target}: {report.precision} ({report.shipped_because})", ""]
    text.append(f"  {'stage':<12}{'top-1':>9}   {'95 % interval':<18}{'ONNX':>10}")
    for row in report.accuracy:
        interval = f"{100 * row.low:.2f} – {100 * row.high:.2f} %"
        text.append(f"  {row.stage:<12}{100 * row.top1:>7.2f} %   {interval:<18}{row.size_kb:>7.1f} kB")
    images = report.accuracy[0].images
    agreement = 100 * report.agreement_with_float
    text.append(f"  on {images} test images; the shipped model agrees with its float parent on {agreement:.2f} %")
    text += [_spread(spread) for spread in report.seeds]
    text += ["", *_latency(report), ""]
    text += [f"  note: {note}" for note in report.notes]
    text += [f"  {_budget(verdict, report)}" for verdict in report.budgets]
    return text


def _spread(spread: Spread) -> str:
    mean, deviation = 100 * spread.mean, 100 * spread.deviation
    return f"  {spread.row} over {len(spread.top1)} seeds: {mean:.2f} % ± {deviation:.2f}; the first seed's goes on"


def _latency(report: Report) -> list[str]:
    if report.latency is not None:
        return measured_lines(report.latency)
    text = [f"  latency on {report.target}: not measured, {report.latency_missing_because}"]
    if report.this_host is not None:
        text += measured_lines(report.this_host, "not the target: ")
    return text


def measured_lines(run: Measured, prefix: str = "") -> list[str]:
    """Return one interleaved run as a table; times are against its first model."""
    threads = "1 thread" if run.threads == 1 else f"{run.threads} threads"
    text = [f"  {prefix}{run.machine}, {threads}, onnxruntime {run.onnxruntime}, batch 1, interleaved"]
    width = max(12, *(len(row.model) + 1 for row in run.rows))
    text.append(f"  {'model':<{width}}{'p50':>11}   {'95 % interval':<18}{'p90':>11}   faster than {run.rows[0].model}")
    return text + [_latency_row(row, width) for row in run.rows]


def _latency_row(row: LatencyRow, width: int) -> str:
    low, high = row.p50_interval
    interval = f"{low:.3f} – {high:.3f}" if low is not None and high is not None else "too few rounds"
    low, high = row.times_interval
    times = f"{row.times_faster_than_teacher:.2f}×"
    if low is not None and high is not None and low != high:
        times += f" ({low:.2f} – {high:.2f})"
    p90 = f"{row.p90_ms:.3f} ms" if row.p90_ms is not None else "–"
    return f"  {row.model:<{width}}{row.p50_ms:>8.3f} ms   {interval:<18}{p90:>11}   {times}"


def _budget(verdict: Verdict, report: Report) -> str:
    got = "not measured" if verdict.got is None else f"{verdict.got:.4g}"
    line = f"budget {verdict.state}: {verdict.budget} asked {verdict.asked:.4g}, got {got}"
    is_accuracy = "accuracy" in verdict.budget
    return f"{line}; {report.costliest}" if verdict.state == "missed" and is_accuracy else line
