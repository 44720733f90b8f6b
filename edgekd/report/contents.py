"""report.json: the numbers of one build."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A part of the report."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StageRow(Table):
    """What one stage left: top-1 on test with its Wilson 95 % interval, and the size as ONNX (units of 1000 bytes)."""

    stage: str
    top1: float
    low: float
    high: float
    images: int
    size_kb: float


class Spread(Table):
    """One row trained once per seed: top-1 on test of each, in the order of the seeds; the first one goes on."""

    row: str
    top1: tuple[float, ...]
    mean: float
    deviation: float
    """The sample's standard deviation."""


class Verdict(Table):
    """One budget: asked, got, and whether it was met."""

    budget: str
    asked: float
    got: float | None
    state: Literal["met", "missed", "unjudged"]


class Files(Table):
    """Files of the data that a reader should know of, by their names below the data folder."""

    unreadable: tuple[str, ...] = ()
    """Images that could not be decoded, and were left out."""
    not_images: tuple[str, ...] = ()
    """Other files in the class folders."""
    in_no_class: tuple[str, ...] = ()
    """Images beside the class folders, left out."""
    test_images_in_train: tuple[str, ...] = ()
    """Test images whose pixels train has as well."""


class LatencyRow(Table):
    """Milliseconds per image, batch 1: median and 90th percentile with their 95 % intervals."""

    model: str
    p50_ms: float
    p50_interval: tuple[float | None, float | None]
    p90_ms: float | None
    """Null where there are too few rounds (below 36) to bound it."""
    p90_interval: tuple[float | None, float | None]
    times_faster_than_teacher: float
    times_interval: tuple[float | None, float | None]


class Measured(Table):
    """One interleaved run on one machine."""

    machine: str
    onnxruntime: str
    provider: str
    threads: int
    rounds: int
    rows: tuple[LatencyRow, ...]


class Report(Table):
    """All that is said of one bundle. Accuracies are fractions 0-1 on the test images."""

    format: int = 1
    name: str
    target: str
    precision: str
    shipped_because: str
    accuracy: tuple[StageRow, ...]
    agreement_with_float: float
    """Part of the test images on which the shipped model and its float parent name the same class."""
    latency: Measured | None
    """On the target; null when this machine is not it."""
    latency_missing_because: str
    this_host: Measured | None
    """The same run on the machine that built, when it is not the target."""
    operators: dict[str, int]
    operators_in_float: dict[str, int]
    budgets: tuple[Verdict, ...]
    costliest: str
    data: dict[str, Any]
    files: Files = Files()
    training: dict[str, Any]
    seeds: tuple[Spread, ...]
    pruning: dict[str, Any]
    front: dict[str, Any]
    quantization: dict[str, Any]
    """How int8 was made: calibrator, repairs and their gains in dB, saturation, nodes in float; empty without int8."""
    notes: tuple[str, ...]

    @property
    def missed(self) -> tuple[Verdict, ...]:
        """The budgets that were missed."""
        return tuple(verdict for verdict in self.budgets if verdict.state == "missed")

    @property
    def unjudged(self) -> tuple[Verdict, ...]:
        """The budgets that could not be judged."""
        return tuple(verdict for verdict in self.budgets if verdict.state == "unjudged")
