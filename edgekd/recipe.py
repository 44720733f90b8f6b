"""Everything that a recipe (edgekd.toml) may say. A missing table skips its stage, an empty one takes the defaults."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgekd.errors import RecipeError
from edgekd.strict import explain

FILE_NAME = "edgekd.toml"
Fraction = Annotated[float, Field(ge=0, le=1)]
Pixels = tuple[float, float, float]
Side = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Scalar = bool | int | float | str


class Table(BaseModel):
    """A table of the recipe: unknown keys and wrong types are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Data(Table):
    """Where images come from and how they are split."""

    source: str = "folder"
    """`folder` (train/<class>/*, test/<class>/*), `digits` (built in) or `module:function` that returns a Dataset."""
    path: str = "data"
    """The image folder, relative to the recipe."""
    size: Side | tuple[Side, Side] = 224
    """Height and width that every image is resized to (bilinear with antialias, stretched)."""
    val: str = ""
    """A folder `<class>/*` of validation images; empty: a part of train."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The part of each class of train that is held out when `val` names no folder."""
    labels: tuple[str, ...] = ()
    """The order of the classes; empty: the folder names, sorted."""
    skip_unreadable: bool = False
    """Leave out images that cannot be decoded, and count them."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Data:
        twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if twice:
            raise ValueError(f'the label "{twice[0]}" is named twice')
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


class Model(Table):
    """A network: a callable, its arguments, perhaps its weights and the normalisation that they were trained with."""

    model: str
    args: dict[str, Scalar] = {}
    weights: str = ""
    """A safetensors file, or a torch file of tensors only; relative to the recipe. Empty: starts from the seed."""
    mean: Pixels | None = None
    """Per channel, in pixel units 0-255. Must be given with weights; else 128."""
    std: Pixels | None = None
    """Per channel, in pixel units 0-255. Must be given with weights; else 64."""
    saw_train: bool = True
    """Whether the given weights were trained on this train folder: then no epoch is chosen on images out of it."""

    @model_validator(mode="after")
    def _weights_come_with_their_normalisation(self) -> Model:
        if self.weights and (self.mean is None or self.std is None):
            raise ValueError("weights need the mean and std (pixel units, 0-255) that they were trained with")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be above 0")
        return self


class Training(Table):
    """A schedule of the one training loop."""

    epochs: Annotated[int, Field(ge=1)] = 20
    batch: Annotated[int, Field(ge=2)] = 128
    lr: Annotated[float, Field(gt=0)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: Literal["cosine", "one-cycle"] = "cosine"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    crop: Annotated[int, Field(ge=0)] = 4
    """Pad by this many black pixels, then crop at random; 0: no crop."""
    flip: bool = True
    """Mirror half of the images left to right."""
    select: Literal["auto", "best", "last"] = "auto"
    """Which epoch is kept. `auto`: the best on validation, or the last where given weights have seen those images."""
    seed: Seed = 0


class Teacher(Model):
    """The network that supervises. Without weights it is trained first, by `[teacher.train]`."""

    train: Training = Training()
    min_teacher: Fraction | None = None
    """The least accuracy on validation that a teacher must show; default: three times chance, at most half way to 1."""


class Distill(Training):
    """Logit distillation, Hinton et al. 2015 (arXiv:1503.02531)."""

    temperature: Annotated[float, Field(gt=0)] = 4.0
    alpha: Fraction = 0.1
    """Weight of the hard labels; the teacher's logits weigh 1 - alpha."""


class Prune(Table):
    """Whole channels, cut where they cost most and matter least."""

    keep_macs: Annotated[float, Field(gt=0, le=1)] = 0.7
    """The part of the multiply-accumulates that may stay."""
    block: Annotated[int, Field(ge=1)] = 16
    """Widths are multiples of this; int8 kernels work in such blocks."""
    norm: Literal["l1", "l2"] = "l2"
    """The norm of a channel's weights that says how much it matters."""
    protect: tuple[str, ...] = ()
    """Module paths whose output channels stay."""
    recovery: Distill = Distill(epochs=10, lr=0.02)


class Quantize(Table):
    """Static quantization with a calibration set drawn from train."""

    samples: Annotated[int, Field(ge=1)] = 512
    """Calibration images, stratified by class."""
    precision: Literal["auto", "float"] = "auto"
    """`auto`: what the target says; `float`: no quantization."""


class Bench(Table):
    """How long is measured."""

    rounds: Annotated[int, Field(ge=5)] = 60
    """Interleaved rounds; each times every model once."""
    warmup: Annotated[int, Field(ge=1)] = 10


class Budget(Table):
    """What the shipped model must reach; a miss is exit code 3. Accuracies are fractions 0-1 on the test images."""

    min_accuracy: Fraction | None = None
    max_accuracy_drop: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Teacher minus shipped."""
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """Median, batch 1, on the target."""
    max_size_kb: Annotated[float, Field(gt=0)] | None = None
    """Of model.onnx, in units of 1000 bytes."""

    def over(self, other: Budget) -> Budget:
        """Return this budget, with what it leaves open taken from the other."""
        return other.model_copy(update=self.model_dump(exclude_none=True))


class Compute(Table):
    """Where and how training runs. Part of a training's key: other values give other bytes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "float"] = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    """0: all cores of this machine."""
    strategy: str = "auto"
    """Lightning Fabric's strategy."""


class Recipe(Table):
    """One build: data, networks, stages and budgets."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    data: Data
    teacher: Teacher
    student: Model | None = None
    """Missing: the teacher itself is pruned, exported and quantized."""
    distill: Distill | None = None
    prune: Prune | None = None
    quantize: Quantize | None = None
    bench: Bench = Bench()
    budget: Budget = Budget()
    compute: Compute = Compute()
    folder: Annotated[Path, Field(exclude=True)] = Path()
    """Where the recipe lies; paths and code are found from here. Not a key of the file."""

    @model_validator(mode="after")
    def _stages_have_what_they_need(self) -> Recipe:
        if self.student is not None and not self.distill and not self.student.weights:
            raise ValueError("[student] has no weights and nothing trains it: add [distill], or weights")
        if self.distill is not None and self.student is None:
            raise ValueError("[distill] needs a [student]")
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file or the one inside a folder; `overrides` are `table.key=value` with TOML values.

    Raises RecipeError naming file, key and value.
    """
    file = path / FILE_NAME if path.is_dir() else path
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {file}", f"name an {FILE_NAME}, or a folder that holds one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file}: not a TOML file: {error}", "see the recipe in the README, key by key") from None
    except OSError as error:
        raise RecipeError(f"{file}: {error.strerror}", f"name an {FILE_NAME}, or a folder that holds one") from None
    values.setdefault("name", file_name(file.resolve().parent.name))
    return parse(values, str(file), file.resolve().parent, overrides)


def file_name(words: str) -> str:
    """Return words as a name that is safe in paths."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-.") or "edgekd"


def digits(overrides: Sequence[str] = ()) -> Recipe:
    """Return the built-in example; its store lies in the current folder."""
    file = Path(__file__).with_name("digits.toml")
    values = tomllib.loads(file.read_text(encoding="utf-8"))
    return parse(values, "digits", Path.cwd(), overrides)


def parse(values: Mapping[str, Any], where: str, folder: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Make a recipe out of TOML values. Raises RecipeError."""
    merged = json.loads(json.dumps(values, default=str))
    for override in overrides:
        _override(merged, override)
    if "folder" in merged:
        raise RecipeError(f'{where}: unknown key "folder"', "paths are relative to the recipe's own folder")
    try:
        # JSON mode: TOML has lists only, and strictness there still takes a list for a tuple.
        recipe = Recipe.model_validate_json(json.dumps(merged, default=str))
    except ValidationError as error:
        raise RecipeError(*explain(error, Recipe, where)) from None
    return recipe.model_copy(update={"folder": folder})


def _override(values: dict[str, Any], override: str) -> None:
    """Set one `table.key=value`; the value is TOML, a bare word is a string."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        hint = "for instance --set distill.epochs=5"
        raise RecipeError(f'--set "{override}" is not of the form table.key=value', hint)
    table = values
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise RecipeError(f'--set "{override}": {key} is a value, not a table', "see the recipe in the README")
    try:
        table[keys[-1]] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[keys[-1]] = text
