"""The command line: the only file of the tool that prints or exits. It imports inside the commands."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from edgekd.errors import EdgekdError
from edgekd.run import Run

_STDOUT = 1
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
stores = typer.Typer(no_args_is_help=True, help="What is kept between builds.")
app.add_typer(stores, name="store")

Targets = Annotated[list[str], typer.Option("--target", "-t", help="A shipped target's name, or a file FILE.toml.")]
Resize = Literal["stretch", "letterbox", "crop"]
Colour = Literal["rgb", "bgr", "grey"]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


def main() -> NoReturn:
    """Run a command. Exit codes: 0 fine, 1 user's mistake, 2 wrong usage, 3 a budget missed, 130 stopped by Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path need not be UTF-8, and a terminal may be ASCII only: what cannot be printed is printed as an escape, as
        # stderr does by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    # torch's own, about its own: nothing that a user of edgekd can act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
    try:
        app()
    except EdgekdError as error:
        _fail(error.message, error.hint)
    except OSError as error:
        _fail(*_of_the_system(error))
    sys.exit(0)


def _of_the_system(error: OSError) -> tuple[str, str]:
    """Return message and hint for what the system refuses; raise the error again where no user can mend it."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT} and not _can_print():
        return "cannot print: the disk that stdout goes to is full", "free some room, or redirect the output elsewhere"
    # numpy 2.4's tofile says in words only that less was written than was asked for.
    if error.errno in {errno.ENOSPC, errno.EDQUOT} or (error.errno is None and "requested and" in str(error)):
        where = error.filename or error.strerror or "not everything could be written"
        return f"the disk is full: {where}", "free some room, and run the same command again"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}:
        hint = "choose a folder that you may write: --out, for a build also --store"
        return f"{error.filename}: {error.strerror}", hint
    raise error


def _can_print() -> bool:
    """Whether stdout takes what is printed; where it does not, nothing more is sent to it."""
    try:
        # Not by flushing: what could not be written is forgotten, and the next flush succeeds.
        os.write(_STDOUT, b"\n")
    except OSError:
        # Else the interpreter tries again when it ends, and complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
        return False
    return True


def _print_version(asked: bool) -> None:
    if asked:
        from edgekd import __version__

        print(f"edgekd {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """From a trained PyTorch teacher to a small, right and fast int8 ONNX file on a named device."""


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
    from edgekd.live import Live, teller
    from edgekd.ship import insists

    insist = insists(ship)
    say = teller(sys.stderr if as_json else sys.stdout)
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
        with aside, Live(say, quiet=as_json) as run:
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
    rounds: Annotated[int, typer.Option(min=5, help="Interleaved rounds; a p90 takes 36.")] = 60,
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
    from edgekd.live import Live, teller
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
    say = teller(sys.stderr if as_json else sys.stdout)
    try:
        with Live(say, quiet=as_json) as run:
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


@stores.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="The store.")] = Path(".edgekd"), as_json: AsJson = False
) -> None:
    """Read all that a store holds; set aside what is damaged, to be made again. Exit code 3 if anything is."""
    from edgekd.live import Live, teller
    from edgekd.verifying import verify as verify_store

    say = teller(sys.stderr if as_json else sys.stdout)
    with Live(say, quiet=as_json) as run:
        found = verify_store(folder, run)
    if as_json:
        print(json.dumps({"whole": found.whole, "damaged": found.damaged}))
    else:
        say(f"{found.whole} whole, {len(found.damaged)} damaged")
    raise typer.Exit(3 if found.damaged else 0)


def _fail(message: str, hint: str) -> NoReturn:
    # A message may quote another library's, which may run over many lines.
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    print(f"hint: {' '.join(hint.split())}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
