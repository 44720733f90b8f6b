"""Measure models on this machine, interleaved in one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime as ort
from pydantic import BaseModel, ConfigDict

from edgekd import host, runtime
from edgekd.bench import runner, statistics
from edgekd.bench.statistics import Latency, Quantile
from edgekd.errors import ModelError, first_line
from edgekd.recipe import Bench
from edgekd.runtime import Settings

_CALLS = 5


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


def measure(models: Mapping[str, Path], settings: Settings, config: Bench) -> Measured:
    """Time the models {name: file} by the settings, batch 1. Raises TargetError, ModelError."""
    sessions = [runtime.open_session(file, settings) for file in models.values()]
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
        times = dict(zip(models, runner.time_sessions(sessions, spec), strict=True))
    except Exception as error:
        # onnxruntime's exceptions share no base class but this one.
        raise ModelError(
            f"{', '.join(models)} does not run on random pixels: {first_line(error)}",
            "bench feeds uint8 or float images, every dynamic dimension 1",
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
