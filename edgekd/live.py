"""What a command shows while it works: a live line on a terminal, plain lines in a pipe."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from edgekd.run import Progress, Run


def teller(stream: object) -> Callable[[str], None]:
    """Return a function that prints a line to stdout or stderr at once."""

    def say(line: str) -> None:
        print(line, file=stream, flush=True)  # type: ignore[call-overload]

    return say


class Live:
    """A live line on a terminal; in a pipe, a plain line per epoch."""

    def __init__(self, say: Callable[[str], None], quiet: bool) -> None:
        self._say = say
        self._console = Console(stderr=quiet)
        self._progress: Bar | None = None

    def __enter__(self) -> Run:
        if not self._console.is_terminal:
            return Run(say=self._say, show=self._line)
        bar = Bar(
            TextColumn("{task.fields[stage]}"), BarColumn(bar_width=24), TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(), console=self._console, transient=True,
        )  # fmt: skip
        task = bar.add_task("", stage="", note="", total=None)
        bar.start()
        self._progress = bar

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total, stage=progress.stage, note=progress.note)
            if progress.milestone:
                bar.console.print(f"{progress.stage}: {progress.note}", highlight=False, style="dim", soft_wrap=True)

        def say(line: str) -> None:
            bar.reset(task, total=None, stage=line.partition(":")[0].removesuffix(" runs"), note="")
            bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

        return Run(say=say, show=show)

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def _line(self, progress: Progress) -> None:
        if progress.milestone:
            self._say(f"{progress.stage}: {progress.note}")
