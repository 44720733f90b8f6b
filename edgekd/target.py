"""Everything that a target (targets/*.toml) may say about a device. A new device is a new file, no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from edgekd.errors import TargetError, did_you_mean
from edgekd.recipe import Budget, Precision, Quantize, file_name
from edgekd.strict import explain
from edgekd.toml import read


class Table(BaseModel):
    """A table of a target file: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Device(Table):
    """What the machine is; decides whether this host may stand for it."""

    architecture: Literal["x86_64", "aarch64"]
    instructions: tuple[str, ...] = ()
    """CPU flags, as /proc/cpuinfo spells them, that the machine has."""
    gpu: Literal["none", "nvidia"] = "none"


class Runtime(Table):
    """How onnxruntime runs there."""

    providers: Annotated[tuple[str, ...], Field(min_length=1, examples=[["CPUExecutionProvider"]])]
    """Execution providers in order of preference; the first must be the one that runs."""
    threads: Annotated[int, Field(ge=1)] = 1
    session: dict[str, str] = {}
    """onnxruntime session configuration entries."""
    opset: Annotated[int, Field(ge=18)] = 18
    """The newest ONNX opset that the device's onnxruntime takes; torch's exporter writes none below 18."""
    ir: Annotated[int, Field(ge=8)] = 10
    """The newest ONNX IR version that it takes."""

    @field_validator("opset", "ir")
    @classmethod
    def _onnx_knows_it(cls, value: int, info: ValidationInfo) -> int:
        # Below, onnx takes 0.2 s of every start for nothing.
        if value > cls.model_fields[str(info.field_name)].default:
            import onnx  # noqa: PLC0415

            newest = onnx.IR_VERSION if info.field_name == "ir" else onnx.defs.onnx_opset_version()
            if value > newest:
                least = 8 if info.field_name == "ir" else 18
                raise ValueError(
                    f"{value} is newer than all that onnx {onnx.__version__} knows",
                    f"from {least} to {newest}: the newest that the device's onnxruntime takes",
                )
        return value


class Int8(Table):
    """Which integers suit the device's kernels."""

    activations: Literal["uint8", "int8"] = "uint8"
    weights: Literal["uint8", "int8"] = "int8"
    per_channel: bool = True
    reduce_range: bool = False
    """7-bit weights: needed where the instruction set saturates when it adds two products (x86 without VNNI)."""
    symmetric: bool = False
    """Activations lie symmetric about zero, as some accelerators want; a Relu is then an operator of its own."""

    def under(self, recipe: Quantize) -> Int8:
        """Return this policy with what a recipe says otherwise."""
        given = {key: getattr(recipe, key) for key in Int8.model_fields}
        return self.model_copy(update={key: value for key, value in given.items() if value is not None})


class Target(Table):
    """One device, or one family of devices that run the same file alike."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    description: str
    device: Device
    runtime: Runtime
    precision: Precision = "int8"
    block: Annotated[int, Field(ge=1)] = 16
    """The step of widths that its kernels like, for `prune.block = "target"`."""
    int8: Int8 | None = None
    budget: Budget = Budget()

    def precision_under(self, recipe: Quantize) -> Precision:
        """Return what the shipped file is to be: by the recipe's word or, where it leaves that open, this target's."""
        return self.precision if recipe.precision == "auto" else recipe.precision

    def policy_under(self, recipe: Quantize) -> Int8:
        """Return the integers of an int8 file: the target's, or the usual ones, with what a recipe says otherwise."""
        return (self.int8 or Int8()).under(recipe)

    @model_validator(mode="after")
    def _int8_has_its_table(self) -> Target:
        if (self.precision == "int8") != (self.int8 is not None):
            raise ValueError(
                'an [int8] table and precision = "int8" belong together',
                'add [int8], or precision = "float" or "fp16" without it; see `edgekd targets cpu`',
            )
        return self


def folder() -> Path:
    """Return the folder of the shipped targets: inside the package when installed, else the checkout's."""
    inside = Path(__file__).parent / "targets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "targets"


def names() -> list[str]:
    """Return the names of the shipped targets, sorted."""
    return sorted(file.stem for file in folder().glob("*.toml"))


def file_of(name_or_file: str) -> Path:
    """Find a target's file by its name or its path. Raises TargetError."""
    if name_or_file.endswith(".toml"):
        file = Path(name_or_file)
        if not file.is_file():
            raise TargetError(f"no target file {file}", f"or name a shipped target: {', '.join(names())}")
        return file
    if name_or_file not in names():
        raise TargetError(
            f'unknown target "{name_or_file}"',
            f"{did_you_mean(name_or_file, names())}targets: {', '.join(names())}, or a file FILE.toml",
        )
    return folder() / f"{name_or_file}.toml"


def load(name_or_file: str) -> Target:
    """Read a target, found by its name or its file. Raises TargetError."""
    return _read(file_of(name_or_file))


def _read(file: Path) -> Target:
    try:
        values = read(file, file.name, TargetError)
    except OSError as error:
        raise TargetError(f"{file}: {error.strerror}", "name a file that can be read") from None
    values.setdefault("name", file_name(file.stem))
    try:
        return Target.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise TargetError(*explain(error, Target, file.name)) from None
