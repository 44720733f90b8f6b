"""What `edgekd quantize` was asked for, and how the graph that it was given takes its images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import onnx
import onnx.version_converter
from onnx import ModelProto, TensorProto, ValueInfoProto

from edgekd import front, ref, runtime
from edgekd import host as hosts
from edgekd.beside import check_writable
from edgekd.errors import DataError, ModelError, RecipeError, TargetError, did_you_mean, first_line
from edgekd.quantize.entry import Entry
from edgekd.recipe import Alone
from edgekd.ref import Ref
from edgekd.target import Target
from edgekd.workload.normalisation import Normalisation

Task = Literal["auto", "classification", "dense"]
_WRITTEN = {"model.onnx", "int8.onnx", "report.json"}
_OLDEST, _OPSET, _IR = 13, 18, 8
"""DequantizeLinear has had scales per channel since opset 13."""


@dataclass(frozen=True)
class Request:
    """What the command was asked for. `mean` and `std` are in pixel units; `size` is of images, height and width."""

    model: Path
    data: Path
    target: Target
    settings: Alone
    out: Path
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)
    size: tuple[int, int] | None = None
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
            f"{target.name} wants {target.precision}, not int8", "name a target with an [int8] table, such as cpu"
        )


def loaded(file: Path) -> ModelProto:
    """Read a float ONNX file. Raises ModelError."""
    if not file.is_file():
        raise ModelError(f"no model {file}", "name a float ONNX file")
    try:
        model = onnx.load(file)
        onnx.checker.check_model(model)
    except Exception as error:
        # protobuf and onnx raise without a common base class.
        raise ModelError(f"{file.name} is no ONNX file: {first_line(error)}", "export it again") from None
    return _modern(model, file.name)


def _modern(model: ModelProto, name: str) -> ModelProto:
    """Return the graph in an opset that int8 can be written in, without constants among its inputs."""
    taken = inputs_of(model)
    version = max((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), default=1)
    if version < _OLDEST:
        try:
            model = onnx.version_converter.convert_version(model, _OPSET)
        except Exception as error:
            # onnx's converter raises without a common base class.
            raise ModelError(
                f"{name} is of opset {version}, and cannot be brought to {_OPSET}: {first_line(error)}",
                f"export it again, in opset {_OLDEST} or later",
            ) from None
        taken = inputs_of(model)
    del model.graph.input[:]
    model.graph.input.extend(taken)
    model.ir_version = max(model.ir_version, _IR)
    return model


def entry_of(model: ModelProto, request: Request) -> tuple[Entry | None, tuple[int, int]]:
    """Return how the graph is fed, and the size of its images; a front is put on where it is asked for."""
    taken = inputs_of(model)
    if any(request.data.glob("*.npz")):
        if request.absorb:
            raise DataError("--absorb is about images, and the data are .npz files", "leave --absorb out")
        return Entry(kind="arrays"), (0, 0)
    if len(taken) > 1:
        raise DataError(
            f"the graph has {len(taken)} inputs ({', '.join(value.name for value in taken)}), images are one",
            "give a folder of .npz files that hold an array for each input",
        )
    value = taken[0]
    dims = [dim.dim_value or None for dim in value.type.tensor_type.shape.dim]
    first = len(dims) == 4 and dims[1] == 3
    if len(dims) != 4 or not (first or dims[3] == 3):
        raise DataError(
            f"the input {value.name} is {[dim or 'any' for dim in dims]}, no image of 3 channels",
            "give a folder of .npz files that hold the inputs by name",
        )
    height, width = dims[2:] if first else dims[1:3]
    shape = _size(value.name, height, width, request)
    _fix(value, shape, first=2 if first else 1)
    is_pixels = value.type.tensor_type.elem_type == TensorProto.UINT8
    if value.name == front.IMAGE and is_pixels and front.nodes_of(model):
        return None, shape
    if request.absorb and not is_pixels and not first:
        raise DataError(f"the input {value.name} has its channels last, --absorb needs [N, 3, H, W]", "leave it out")
    if request.absorb and not is_pixels:
        front.put_on(model, Normalisation(mean=request.mean, std=request.std))
        return None, shape
    if is_pixels:
        return Entry(kind="pixels", name=value.name, channels_first=first), shape
    entry = Entry(kind="normalised", name=value.name, mean=request.mean, std=request.std, channels_first=first)
    return entry, shape


def _size(name: str, height: int | None, width: int | None, request: Request) -> tuple[int, int]:
    if height is None or width is None:
        if request.size is None:
            raise ModelError(f"the input {name} has no fixed height and width", "say it: --size 224, or --size 240x320")
        return request.size
    if request.size is not None and request.size != (height, width):
        raise ModelError(f"--size {request.size}, but the input {name} is {height}×{width}", "leave --size out")
    return height, width


def _fix(value: ValueInfoProto, shape: tuple[int, int], first: int) -> None:
    """Write height and width into the graph, so that what is timed is what will run."""
    for dim, side in zip(value.type.tensor_type.shape.dim[first : first + 2], shape, strict=True):
        dim.Clear()
        dim.dim_value = side


def inputs_of(model: ModelProto) -> list[ValueInfoProto]:
    """Return what the caller feeds: inputs that no initializer stands for."""
    constants = {value.name for value in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]
