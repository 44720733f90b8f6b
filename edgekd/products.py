"""What the stages of one build made, by name. Where a stage is skipped, two names are one artifact."""

from __future__ import annotations

from dataclasses import dataclass

from edgekd.store import Artifact


@dataclass(frozen=True)
class Networks:
    """The torch half."""

    data: Artifact
    teacher: Artifact
    student: Artifact
    final: Artifact
    cuts: tuple[Artifact, ...]
    """What each step of pruning left."""
    over_seeds: dict[str, tuple[Artifact, ...]]
    """By the report's row: the networks of all seeds, the first of which goes on."""


@dataclass(frozen=True)
class Graphs:
    """The ONNX half, for one target: float graphs, and the candidates for shipping."""

    teacher: Artifact
    student: Artifact
    exported: Artifact
    simplified: Artifact
    candidates: Artifact
