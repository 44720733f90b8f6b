"""What a stage is: a plain function that is run once per content of its inputs, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias

from edgekd.run import Run

Metrics: TypeAlias = dict[str, Any]
P = ParamSpec("P")


@dataclass(frozen=True)
class Stage(Generic[P]):
    """A plain function with what its key needs: it writes `out`, reads its arguments, returns its metrics."""

    name: str
    function: Callable[Concatenate[Path, Run, P], Metrics]
    writes: str
    version: int
    tools: tuple[str, ...]
    resumes: bool
    trains: bool
    subject: str = ""
    """What it works on, in words for the log: `student`, `int8 on test`. Not part of the key."""

    def of(self, subject: str) -> Stage[P]:
        """Return this stage with a subject, for the log."""
        return replace(self, subject=subject)

    @property
    def label(self) -> str:
        """What the log calls it."""
        return f"{self.name} {self.subject}".strip()


def stage(
    *,
    writes: str,
    version: int,
    tools: tuple[str, ...] = (),
    name: str = "",
    resumes: bool = False,
    trains: bool = False,
) -> Callable[[Callable[Concatenate[Path, Run, P], Metrics]], Stage[P]]:
    """Make a stage of a function `(out, run, ...) -> metrics`.

    `writes` names the file or folder that it makes; raise `version` when its bytes would change; `tools` are the
    distributions whose versions may change its bytes; one that `resumes` keeps a checkpoint beside `out`; one that
    `trains` may take hours, and is rehearsed first.
    """

    def decorate(function: Callable[Concatenate[Path, Run, P], Metrics]) -> Stage[P]:
        return Stage(name or function.__name__, function, writes, version, tools, resumes, trains)

    return decorate


@dataclass(frozen=True)
class Artifact:
    """What a stage wrote, and what it measured about it."""

    stage: str
    path: Path
    measured: Metrics | None
    """None under --plan, where the artifact is not made yet, or would be made again."""

    @property
    def metrics(self) -> Metrics:
        """What the stage measured. Raises PlanEndsError where it did not run yet."""
        if self.measured is None:
            raise PlanEndsError
        return self.measured

    def require(self) -> Path:
        """Return the path of what is there. Raises PlanEndsError where it is only planned."""
        if self.measured is None:
            raise PlanEndsError
        return self.path


class PlanEndsError(Exception):
    """Under --plan: what follows depends on a result that does not exist yet."""
