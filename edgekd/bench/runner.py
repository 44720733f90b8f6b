"""Time ONNX models, interleaved. The one file that is sent to a device: numpy and onnxruntime only.

    python runner.py '{"models": ["a.onnx", "b.onnx"], "rounds": 60, "warmup": 10, "calls": 5, …}'

prints one JSON line: per model a list of rounds, per round the milliseconds of each call.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spec:
    """What is timed and how."""

    models: list[str]
    rounds: int
    warmup: int
    calls: int
    """Timed calls of each model in a round, after one that is not timed: a round of the others emptied its caches."""
    threads: int
    providers: list[str]
    entries: dict[str, str]


def time_sessions(sessions: list[Any], spec: Spec) -> list[list[list[float]]]:
    """Return [model][round][call] milliseconds, batch 1. The models take turns, so that drift hits all alike."""
    feeds = [feed_of(session) for session in sessions]
    for session, feed in zip(sessions, feeds, strict=True):
        for _ in range(spec.warmup):
            session.run(None, feed)
    times: list[list[list[float]]] = [[] for _ in sessions]
    for number in range(spec.rounds):
        # Every other round backwards: no model always runs after the same one.
        order = range(len(sessions)) if number % 2 == 0 else reversed(range(len(sessions)))
        for index in order:
            times[index].append(_round(sessions[index], feeds[index], spec.calls))
    return times


def _round(session: Any, feed: dict[str, Any], calls: int) -> list[float]:
    session.run(None, feed)
    taken = []
    for _ in range(calls):
        start = time.perf_counter_ns()
        session.run(None, feed)
        taken.append((time.perf_counter_ns() - start) / 1e6)
    return taken


def feed_of(session: Any) -> dict[str, Any]:
    """Return random values for every input, dynamic dimensions 1; pixels for uint8, standard normal for float."""
    import numpy as np  # noqa: PLC0415 - kept beside its use so that the file reads top down on a device

    generator = np.random.default_rng(0)
    feed = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in value.shape]
        if value.type == "tensor(uint8)":
            feed[value.name] = generator.integers(0, 256, shape, np.uint8)
        elif "int" in value.type or value.type == "tensor(bool)":
            kinds = {"tensor(int32)": np.int32, "tensor(int8)": np.int8, "tensor(bool)": np.bool_}
            feed[value.name] = np.zeros(shape, kinds.get(value.type, np.int64))
        else:
            dtype = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(value.type, np.float32)
            feed[value.name] = generator.standard_normal(shape).astype(dtype)
    return feed


def main(argument: str) -> None:
    """Open the sessions of a JSON spec, time them, print the times."""
    import onnxruntime as ort  # noqa: PLC0415 - the library is edgekd's own runtime module elsewhere

    spec = Spec(**json.loads(argument))
    options = ort.SessionOptions()
    options.intra_op_num_threads = spec.threads
    options.inter_op_num_threads = 1
    for key, value in spec.entries.items():
        options.add_session_config_entry(key, value)
    sessions = [ort.InferenceSession(model, options, providers=spec.providers) for model in spec.models]
    print(json.dumps({"onnxruntime": ort.__version__, "times": time_sessions(sessions, spec)}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
