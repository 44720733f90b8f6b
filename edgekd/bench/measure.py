"""Measure models on this machine, interleaved in one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edgekd import host, runtime
from edgekd.bench import runner, statistics
from edgekd.bench.statistics import Latency, Quantile
from edgekd.errors import ModelError, first_line
from edgekd.recipe import Bench
from edgekd.runtime import Settings

_CALLS = 5
Inputs = Mapping[str, NDArray[Any]]
"""Arrays by the name of a graph's input."""


class Measured(BaseModel):
    """One interleaved run. `faster` is how many times faster each model is than the first, round by round."""

    model_config = ConfigDict(frozen=True)

    machine: str
    onnxruntime: str
    provider: str
    threads: int
    rounds: int
    latency_ms: dict[str, Latency]
    faster: dict[str, Quantile]


def measure(
    models: Mapping[str, Path], settings: Settings, config: Bench, feeds: Mapping[str, Inputs] | None = None
) -> Measured:
    """Time the models {name: file} by the settings.

    `feeds` holds by the model's name what it is fed; inputs that are not in it get random values, batch 1. Raises
    TargetError, and ModelError also for an input that is not fed and leaves more than its batch open.
    """
    sessions = [runtime.open_session(file, settings) for file in models.values()]
    given = [(feeds or {}).get(name, {}) for name in models]
    for name, session, feed in zip(models, sessions, given, strict=True):
        runtime.check_interface(name, session)
        check_sizes(name, session, feed)
    spec = runner.Spec(
        models=[],
        rounds=config.rounds,
        warmup=config.warmup,
        calls=_CALLS,
        threads=settings.threads,
        providers=list(settings.providers),
        entries=settings.entries,
    )
    try:
        times = dict(zip(models, runner.time_sessions(sessions, spec, given), strict=True))
    except Exception as error:
        # onnxruntime's exceptions share no base class but this one.
        raise ModelError(
            f"{', '.join(models)} does not run on what it is fed: {first_line(error)}",
            "feed what the graph takes: --size for images, --data for a file of its inputs",
        ) from None
    first = times[next(iter(models))]
    return Measured(
        machine=host.this().name,
        onnxruntime=ort.__version__,
        provider=settings.providers[0],
        threads=settings.threads,
        rounds=config.rounds,
        latency_ms={name: statistics.latency(rounds) for name, rounds in times.items()},
        faster={name: statistics.ratio(first, rounds) for name, rounds in times.items()},
    )


def check_sizes(name: str, session: Any, feed: Inputs) -> None:
    """Raise ModelError where an input that is not fed leaves more than its batch open: timed as 1 it would be wrong."""
    for given, shape in runner.open_inputs(session, feed).items():
        sides = ", ".join(str(size or "any") for size in shape)
        raise ModelError(
            f"the input {given} of {name} is [{sides}]: how long it takes depends on what is open there",
            "say the size: --size 224, or 240x320, for an image; else --data FILE.npz that holds the inputs by name",
        )
