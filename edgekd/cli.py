"""The command line: the only file of the tool that prints or exits. It imports inside the commands."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from edgekd.errors import EdgekdError
from edgekd.run import Progress, Run

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Targets = Annotated[list[str], typer.Option("--target", "-t", help="A shipped target's name, or a file FILE.toml.")]
Resize = Literal["stretch", "letterbox", "crop"]
Colour = Literal["rgb", "bgr", "grey"]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


def main() -> NoReturn:
    """Run a command. Exit codes: 0 fine, 1 user's mistake, 2 wrong usage, 3 a budget missed, 130 stopped by Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path need not be UTF-8: what cannot be printed is printed as an escape, as stderr does by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    # torch's own, about its own: nothing that a user of edgekd can act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    try:
        app()
    except EdgekdError as error:
        _fail(error.message, error.hint)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _fail(
                f"the disk is full: {error.filename or error.strerror}",
                "free some room, and run the same command again",
            )
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG):
            _fail(
                f"{error.filename}: {error.strerror}",
                "choose a folder that you may write: --out, for a build also --store",
            )
        raise
    sys.exit(0)


@app.command()
def build(
    recipe: Annotated[Path | None, typer.Argument(help="An edgekd.toml, or the folder that holds one.")] = None,
    target: Targets = ["cpu"],  # noqa: B006 - typer's way to give a list a default
    out: Annotated[Path, typer.Option(help="Where the bundles go.")] = Path("dist"),
    store: Annotated[Path | None, typer.Option(help="The store; default: .edgekd beside the recipe.")] = None,
    set_: Annotated[list[str], typer.Option("--set", help="Override a key: table.key=value.")] = [],  # noqa: B006
    from_: Annotated[str, typer.Option("--from", help="Ignore the store from this stage on.")] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Say what would run and why, and stop.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A budget that cannot be judged counts as missed.")] = False,
    ship: Annotated[str, typer.Option(help="int8: ship it whatever it loses or takes; auto: by the guards.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Distill, prune, export, simplify, quantize, evaluate and bench; write a bundle a target."""
    from edgekd import recipe as recipes
    from edgekd.ship import insists

    insist = insists(ship)
    say = _teller(sys.stderr if as_json else sys.stdout)
    if recipe is None and not Path(recipes.FILE_NAME).exists():
        say("no recipe given and no edgekd.toml here: building the built-in digits example")
        loaded = recipes.digits(set_)
    else:
        loaded = recipes.load(recipe or Path(), set_)
    from edgekd import pipeline
    from edgekd.report import text

    if plan:
        planned: list[str] = []
        pipeline.plan(loaded, target, store, from_, Run(say=planned.append if as_json else say))
        if as_json:
            print(json.dumps({"plan": planned}))
        return
    try:
        # A user's module may print.
        aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
        with aside, _Live(say, quiet=as_json) as run:
            built = pipeline.build(loaded, target, out, store, from_, run, insist)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last epoch", file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        rows = [{"folder": str(each.folder), "report": each.report.model_dump(mode="json")} for each in built.bundles]
        print(json.dumps({"bundles": rows}))
    for bundle in built.bundles if not as_json else ():
        for line in ["", *text.lines(bundle.report), "", f"wrote {bundle.folder}/"]:
            say(line)
    unjudged = any(bundle.report.unjudged for bundle in built.bundles)
    raise typer.Exit(3 if strict and unjudged else built.exit_code)


@app.command()
def bench(
    model: Annotated[Path, typer.Argument(help="An ONNX file, or a bundle.")],
    target: Annotated[
        list[str], typer.Option("--target", "-t", help="A target's name or file; default: a bundle's own, else cpu.")
    ] = [],  # noqa: B006
    rounds: Annotated[int, typer.Option(min=5, help="Interleaved rounds.")] = 60,
    against: Annotated[
        Path | None, typer.Option(help="Another file or bundle to compare with, in the same run.")
    ] = None,
    size: Annotated[str, typer.Option(help="Of images, where the graph leaves it open: 224, or 240x320.")] = "",
    data: Annotated[Path | None, typer.Option(help="An image or .npz file (or a folder) whose shapes are fed.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the latency of a model on this machine, which must be the target."""
    from edgekd.report.latency import as_report
    from edgekd.report.text import measured_lines
    from edgekd.standalone import options
    from edgekd.standalone.bench import Timing, bench_files

    models = (model,) if against is None else (against, model)
    results = bench_files(Timing(models, tuple(target), rounds, options.size(size), data))
    if as_json:
        print(json.dumps({name: run.model_dump(mode="json") for name, run in results.items()}))
        return
    for name, run in results.items():
        for line in [f"{name}:", *measured_lines(as_report(run))]:
            print(line)


@app.command()
def quantize(
    model: Annotated[Path, typer.Argument(help="A float ONNX file.")],
    data: Annotated[Path, typer.Option(help="Images, in a folder a class or together; or .npz files of the inputs.")],
    target: Annotated[
        str, typer.Option("--target", "-t", help="A shipped target's name, or a file FILE.toml.")
    ] = "cpu",
    calibrator: Annotated[str, typer.Option(help="auto, min-max, percentile, entropy or mse.")] = "auto",
    samples: Annotated[int, typer.Option(min=1, help="Calibration samples.")] = 512,
    out: Annotated[Path, typer.Option(help="Where the folder MODEL-TARGET goes.")] = Path("dist"),
    mean: Annotated[str, typer.Option(help="In pixel units 0-255: one number, or one per channel with commas.")] = "0",
    std: Annotated[str, typer.Option(help="As --mean; pixels are fed as (pixel - mean) / std.")] = "255",
    size: Annotated[str, typer.Option(help="Where the graph leaves it open: 224, 240x320, or several: 320,480.")] = "",
    resize: Annotated[Resize, typer.Option(help="How images come to that size.")] = "stretch",
    colour: Annotated[Colour | None, typer.Option(help="Order of the channels; default: rgb, grey for one.")] = None,
    absorb: Annotated[bool, typer.Option("--absorb", help="Let the graph take raw uint8 pixels [N, H, W, C].")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of calibration samples.")] = 0,
    task: Annotated[str, typer.Option(help="What the outputs are: auto, classification, or dense.")] = "auto",
    metric: Annotated[
        str, typer.Option(help="MODULE:FUNCTION of (float's outputs, int8's), which returns the part lost, 0-1.")
    ] = "",
    ship: Annotated[str, typer.Option(help="int8: ship it whatever it loses or takes; auto: by the guards.")] = "auto",
    effort: Annotated[str, typer.Option(help="While int8 loses too much, try: quick, normal or thorough.")] = "normal",
    set_: Annotated[list[str], typer.Option("--set", help="quantize.…, budget.… or bench.…: table.key=value.")] = [],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Quantize any float ONNX file to int8 by calibration samples; write MODEL-TARGET/model.onnx and report.json."""
    from edgekd import recipe as recipes
    from edgekd import target as targets_
    from edgekd.ship import insists
    from edgekd.standalone import options
    from edgekd.standalone.asked import Request, check, metric_of, task_of
    from edgekd.standalone.quantize import lines, quantize_file

    wanted = targets_.load(target)
    settings = recipes.alone({"calibrator": calibrator, "samples": samples, "effort": effort}, set_)
    request = Request(
        model, data, wanted, settings, out, options.numbers("--mean", mean), options.numbers("--std", std),
        options.sizes(size), resize, colour, absorb, seed,
        task=task_of(task), metric=metric_of(metric), insist=insists(ship),
    )  # fmt: skip
    check(request)
    say = _teller(sys.stderr if as_json else sys.stdout)
    try:
        with _Live(say, quiet=as_json) as run:
            result = quantize_file(request, run)
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        print(json.dumps({"folder": str(result.folder), "report": result.report}))
    for line in ["", *lines(result), "", f"wrote {result.folder}/"] if not as_json else ():
        say(line)
    raise typer.Exit(3 if result.missed else 0)


@app.command()
def targets(
    name: Annotated[str | None, typer.Argument(help="One target, in full.")] = None, as_json: AsJson = False
) -> None:
    """List the targets, and whether this machine is one; with a name, all that it says."""
    from edgekd import host
    from edgekd import target as targets_

    wanted = [targets_.load(name)] if name else [targets_.load(each) for each in targets_.names()]
    here = host.this()
    if as_json:
        rows = [{**each.model_dump(mode="json"), "not_here": host.why_not(each.device, here)} for each in wanted]
        print(json.dumps(rows))
        return
    for each in wanted:
        why_not = host.why_not(each.device, here)
        print(f"{each.name:<10} {each.description}")
        print(f"{'':<10} {'this machine is one' if why_not is None else why_not}")
    if name:
        print(f"\n{targets_.file_of(name).read_text(encoding='utf-8').strip()}")


def _fail(message: str, hint: str) -> NoReturn:
    # A message may quote another library's, which may run over many lines.
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    print(f"hint: {' '.join(hint.split())}", file=sys.stderr)
    sys.exit(1)


def _teller(stream: object) -> Callable[[str], None]:
    def say(line: str) -> None:
        print(line, file=stream, flush=True)  # type: ignore[call-overload]

    return say


class _Live:
    """A live line on a terminal; in a pipe, a plain line per epoch."""

    def __init__(self, say: Callable[[str], None], quiet: bool) -> None:
        from rich.console import Console

        self._say = say
        self._console = Console(stderr=quiet)
        self._progress: object = None

    def __enter__(self) -> Run:
        if not self._console.is_terminal:
            return Run(say=self._say, show=self._line)
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

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
        from rich.progress import Progress as Bar

        if isinstance(self._progress, Bar):
            self._progress.stop()

    def _line(self, progress: Progress) -> None:
        if progress.milestone:
            self._say(f"{progress.stage}: {progress.note}")


if __name__ == "__main__":
    main()
