"""What the stages of one build made, by name. Where a stage is skipped, two names are one artifact."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgekd.stage import Artifact


@dataclass(frozen=True)
class Round:
    """One try to cut to a latency. All three are parts of the unpruned network's latency, but for `keep`."""

    keep: float
    """What the table was asked for."""
    predicted: float
    """What the table says of the cut that was made."""
    measured: float


@dataclass(frozen=True)
class LatencyCut:
    """A cut to a latency, measured as the file would be shipped."""

    target: str
    """The name of the target that it was cut for."""
    asked: float
    chosen: Round
    rounds: tuple[Round, ...]
    unpruned: Path
    """The folder of the unpruned network's files, as they would be shipped."""
    why_this_host: str | None
    """Why this host was measured in place of the target; None where it is the target."""

    def as_json(self) -> dict[str, Any]:
        """Return what the report says of it: no path."""
        rounds = [asdict(each) for each in self.rounds]
        return {
            "asked": self.asked,
            "measured": self.chosen.measured,
            "rounds": rounds,
            "why_this_host": self.why_this_host,
        }


SeedsRow = Literal["student", "pruned"]
OverSeeds = tuple[tuple[SeedsRow, tuple[Artifact, ...]], ...]


@dataclass(frozen=True)
class Networks:
    """The torch half."""

    data: Artifact
    teacher: Artifact
    student: Artifact
    final: Artifact
    cuts: tuple[Artifact, ...]
    """What each step of pruning left."""
    latency: LatencyCut | None
    over_seeds: OverSeeds
    """By the report's row: the networks of all seeds, the first of which goes on."""


@dataclass(frozen=True)
class Graphs:
    """The ONNX half, for one target: float graphs, and the candidates for shipping."""

    teacher: Artifact
    student: Artifact
    exported: Artifact
    simplified: Artifact
    repaired: Artifact | None
    """What int8 is made of; None where the target or the recipe wants no int8."""
    tuned: Artifact | None
    """What [finetune] made of `repaired`."""
    candidates: Artifact
