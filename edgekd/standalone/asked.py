"""What `edgekd quantize` was asked for, and how the graph that it was given takes its images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from onnx import ModelProto, ValueInfoProto

from edgekd import host as hosts
from edgekd import ref, runtime
from edgekd.beside import check_writable
from edgekd.errors import DataError, RecipeError, TargetError, did_you_mean
from edgekd.recipe import Alone
from edgekd.ref import Ref
from edgekd.target import Target
from edgekd.workload.images import Colour, Resize
from edgekd.workload.layout import Size

Task = Literal["auto", "classification", "dense"]
_WRITTEN = {"model.onnx", "int8.onnx", "report.json"}


@dataclass(frozen=True)
class Request:
    """What the command was asked for. `mean` and `std` are in pixel units, for all channels or each as it is fed."""

    model: Path
    data: Path
    target: Target
    settings: Alone
    out: Path
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    sizes: tuple[Size, ...] = ()
    """Of images, where the graph leaves height or width open."""
    resize: Resize = "stretch"
    colour: Colour | None = None
    """None: grey for a graph of one channel, else RGB."""
    absorb: bool = False
    seed: int = 0
    task: Task = "auto"
    """What the outputs are, where neither the graph nor labels tell: scores of classes, or anything else."""
    metric: Ref | None = None
    """The user's own measure of what is lost."""
    insist: bool = False
    """Ship int8 in spite of the guard."""

    @property
    def folder(self) -> Path:
        """Where the result goes."""
        return self.out / f"{self.model.stem}-{self.target.name}"


def task_of(text: str) -> Task:
    """Read --task. Raises RecipeError."""
    for known in get_args(Task):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise RecipeError(
        f'--task "{text}" is unknown', f"{did_you_mean(text, get_args(Task))}auto, classification or dense"
    )


def metric_of(text: str) -> Ref | None:
    """Read --metric, a function in a module that is installed or lies in the current folder. Raises RecipeError."""
    return ref.resolve(text, Path.cwd()) if text else None


def check(request: Request) -> None:
    """Raise EdgekdError for what can be told before any work."""
    target = request.target
    if not all(math.isfinite(value) for value in (*request.mean, *request.std)) or min(request.std) <= 0:
        raise DataError("--mean must be numbers, and --std numbers above 0", "in pixel units, such as 127.5 and 64")
    if request.folder.is_dir() and {entry.name for entry in request.folder.iterdir()} - _WRITTEN:
        raise DataError(
            f"{request.folder} holds other files than a result of this command",
            "it would be replaced: name another folder with --out",
        )
    if request.folder.exists() and not request.folder.is_dir():
        raise DataError(f"{request.folder} is a file", "the result is a folder of that name: choose another --out")
    check_writable(request.out)
    if hosts.why_not(target.device, hosts.this()) is None:
        runtime.check_provider(target.runtime.providers[0])
    if target.int8 is None and request.settings.quantize.precision == "auto":
        raise TargetError(
            f"{target.name} wants {target.precision}, not int8",
            f"name a target with an [int8] table, such as cpu, or --set quantize.precision={target.precision}",
        )


def inputs_of(model: ModelProto) -> list[ValueInfoProto]:
    """Return what the caller feeds: inputs that no initializer stands for."""
    constants = {value.name for value in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]
