"""A run without listeners is silent."""

from __future__ import annotations

from edgekd.run import Progress, Run


def test_a_run_says_and_shows_nothing_by_default() -> None:
    run = Run()
    run.say("a line")
    run.show(Progress("stage", 1, 2))
    assert (run.say, run.show) == (Run().say, Run().show)


def test_lines_and_progress_reach_their_listeners() -> None:
    lines: list[str] = []
    shown: list[Progress] = []
    run = Run(say=lines.append, show=shown.append)
    run.say("a line")
    run.show(Progress("stage", 1, 2))
    assert (lines, shown) == (["a line"], [Progress("stage", 1, 2, note="", milestone=False)])
