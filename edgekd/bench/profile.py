"""Where the time of a model goes, by operator, as onnxruntime's own profiler sees the optimised graph."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from edgekd import runtime
from edgekd.bench import runner
from edgekd.bench.measure import Inputs, check_sizes
from edgekd.runtime import Settings

_WARMUP = 10
_CALLS = 50


def shares(model: Path, settings: Settings, feed: Inputs | None = None) -> dict[str, float]:
    """Return the part of the time that each kind of operator takes, largest first; they sum to 1.

    `feed` holds some of the inputs, by name; others get random values, batch 1. Raises ModelError as `measure` does.
    """
    with TemporaryDirectory() as folder:
        session = runtime.open_session(model, settings, profile=Path(folder) / "profile")
        check_sizes(model.name, session, feed or {})
        inputs = runner.feed_of(session, feed)
        names = [value.name for value in session.get_outputs()]
        for _ in range(_WARMUP + _CALLS):
            runtime.answer(session, names, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs = [event["args"] | {"dur": event["dur"]} for event in events if event.get("cat") == "Node"]
    times: Counter[str] = Counter()
    # What comes first is the warm-up: each node runs once a call.
    for event in runs[len(runs) * _WARMUP // (_WARMUP + _CALLS) :]:
        times[event["op_name"]] += event["dur"]
    total = sum(times.values()) or 1
    return {name: time / total for name, time in times.most_common()}
