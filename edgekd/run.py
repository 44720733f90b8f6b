"""What a stage may tell while it runs; never part of a key, never allowed to change bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """Where a long stage stands. `done` of `total` are of the same unit (images, files)."""

    stage: str
    done: int
    total: int
    note: str = ""
    milestone: bool = False
    """Worth a line of its own where no live line can be shown."""


def _say_nothing(line: str) -> None:
    pass


def _show_nothing(progress: Progress) -> None:
    pass


@dataclass(frozen=True)
class Run:
    """The two ways in which a stage speaks: a line that stays, and progress that is overwritten."""

    say: Callable[[str], None] = field(default=_say_nothing)
    show: Callable[[Progress], None] = field(default=_show_nothing)
