"""Time ONNX models, interleaved. The one file that is sent to a device: numpy and onnxruntime only.

    python runner.py '{"models": ["a.onnx", "b.onnx"], "rounds": 60, "warmup": 10, "calls": 5, …}'

prints one JSON line: per model a list of rounds, per round the milliseconds of each call.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    inputs: list[str] = field(default_factory=list)
    """For each model an .npz file of its inputs by name, or "": what no file gives is random, with batch 1."""


def time_sessions(sessions: list[Any], spec: Spec, given: Sequence[Mapping[str, Any]] = ()) -> list[list[list[float]]]:
    """Return [model][round][call] milliseconds. The models take turns, so that drift hits all alike.

    `given` holds for each model the arrays of some of its inputs, by name. Raises ValueError as `feed_of` does.
    """
    feeds = [feed_of(session, given[number] if given else {}) for number, session in enumerate(sessions)]
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


def feed_of(session: Any, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what a session is fed: the given arrays, and random values with batch 1 for every other input.

    Random values are pixels for uint8, standard normal for float, zeros for other integers. Raises ValueError where an
    input that is not given leaves more than its batch open: its size decides the time, and is not known.
    """
    import numpy as np  # noqa: PLC0415 - kept beside its use so that the file reads top down on a device

    given = given or {}
    for name, shape in open_inputs(session, given).items():
        raise ValueError(f"the input {name} is {shape}, more than its batch is open")
    generator = np.random.default_rng(0)
    feed = {}
    for value in session.get_inputs():
        if value.name in given:
            feed[value.name] = given[value.name]
            continue
        shape = [size if isinstance(size, int) else 1 for size in value.shape]
        feed[value.name] = random_values(value.type, shape, generator)
    return feed


def random_values(kind: str, shape: Sequence[int], generator: Any) -> Any:
    """Return an array of one of onnxruntime's types, such as tensor(float)."""
    import numpy as np  # noqa: PLC0415

    if kind == "tensor(uint8)":
        return generator.integers(0, 256, shape, np.uint8)
    if "int" in kind or kind == "tensor(bool)":
        kinds = {"tensor(int32)": np.int32, "tensor(int8)": np.int8, "tensor(bool)": np.bool_}
        return np.zeros(shape, kinds.get(kind, np.int64))
    dtype = {"tensor(float16)": np.float16, "tensor(double)": np.float64}.get(kind, np.float32)
    return generator.standard_normal(shape).astype(dtype)


def open_inputs(session: Any, given: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the shapes, by name, of the inputs that are not given and leave more than their batch open.

    The batch is an open first axis, and in an input whose first axis is fixed the axis of the same name.
    """
    inputs = session.get_inputs()
    batch = {value.shape[0] for value in inputs if value.shape and isinstance(value.shape[0], str)}
    found = {}
    for value in inputs:
        shape = list(value.shape)
        sizes = shape[1:] if shape and not isinstance(shape[0], int) else [size for size in shape if size not in batch]
        if value.name not in given and not all(isinstance(size, int) for size in sizes):
            found[value.name] = shape
    return found


def main(argument: str) -> None:
    """Open the sessions of a JSON spec, time them, print the times."""
    import numpy as np  # noqa: PLC0415
    import onnxruntime as ort  # noqa: PLC0415 - the library is edgekd's own runtime module elsewhere

    spec = Spec(**json.loads(argument))
    options = ort.SessionOptions()
    options.intra_op_num_threads = spec.threads
    options.inter_op_num_threads = 1
    for key, value in spec.entries.items():
        options.add_session_config_entry(key, value)
    sessions = [ort.InferenceSession(model, options, providers=spec.providers) for model in spec.models]
    given = [dict(np.load(file)) if file else {} for file in spec.inputs]
    print(json.dumps({"onnxruntime": ort.__version__, "times": time_sessions(sessions, spec, given)}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
