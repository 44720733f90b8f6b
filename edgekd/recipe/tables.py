"""The tables of a recipe, and the recipe itself. A missing table skips its stage, an empty one takes the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from edgekd.recipe.basis import FilePath, Fraction, Positive, Seed, Side, Table
from edgekd.recipe.networks import Teacher, Transfer
from edgekd.recipe.quantizing import Quantize
from edgekd.recipe.training import Distill, Finetune, Training


class Data(Table):
    """Where images come from and how they are split."""

    source: str = "folder"
    """`folder` (train/<class>/*, test/<class>/*), `digits` (built in) or `module:function` that returns a Dataset."""
    path: FilePath = "data"
    """The image folder, relative to the recipe."""
    size: Side | tuple[Side, Side] = 224
    """Height and width that every image is resized to (bilinear with antialias, stretched)."""
    val: FilePath = Field(default="", examples=["images/val"])
    """A folder `<class>/*` of validation images; empty: a part of train."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The part of each class of train that is held out when `val` names no folder."""
    labels: tuple[str, ...] = Field(default=(), examples=[["bolt", "nut", "washer"]])
    """The order of the classes; empty: the folder names, sorted."""
    skip_unreadable: bool = False
    """Leave out images that cannot be decoded, and name them."""
    seed: Seed = 0

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> Data:
        twice = sorted({label for label in self.labels if self.labels.count(label) > 1})
        if twice:
            raise ValueError(
                f'the label "{twice[0]}" is named twice', "name each class once, in the order of the logits"
            )
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


Keep = Annotated[float, Field(gt=0, le=1)]


class Prune(Table):
    """Whole channels and whole residual blocks, cut where they cost most and matter least."""

    kind: Literal["channels"] = "channels"
    keep_macs: Keep | None = Field(default=None, examples=[0.7])
    """The part of the multiply-accumulates that may stay; 0.7 where no budget is given."""
    keep_params: Keep | None = Field(default=None, examples=[0.8])
    """The part of the parameters that may stay. Of several budgets each must hold."""
    keep_latency: Keep | None = None
    """The part of the latency that may stay, of the file as it is shipped, measured on the first target."""
    block: Annotated[int, Field(ge=1)] | Literal["target"] = 16
    """Widths are multiples of this; int8 kernels work in such blocks. `target`: of the first target's own number."""
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The part of every group of channels that stays in any case."""
    depth: bool = True
    """Whether whole residual blocks may go too, where damage is measured (ranking `sensitivity`)."""
    importance: Literal["l1", "l2", "fpgm", "lamp", "batchnorm", "taylor", "activation", "random"] = "l2"
    """What says how much a channel matters beside the others of its group; see prune/importance.py."""
    ranking: Literal["sensitivity", "global", "uniform"] = "sensitivity"
    """What decides between groups: the measured damage to the answers, the importances, or the same part of each."""
    images: Annotated[int, Field(ge=2)] = 1024
    """Training images that `taylor` and `activation` look at, and `sensitivity` at most."""
    steps: Annotated[int, Field(ge=1, le=100)] = 1
    """Number of equal steps to cut in, with `between` epochs of recovery after each but the last."""
    between: Annotated[int, Field(ge=1)] = 1
    """Epochs of recovery between two steps."""
    protect: tuple[str, ...] = Field(default=(), examples=[["conv1"]])
    """Paths of layers, or of what holds layers: their output channels stay, and the blocks that hold them."""
    seed: Seed = 0
    """Of `random`."""
    recovery: Distill | None = None
    """Missing: what is left is not trained again."""

    @model_validator(mode="after")
    def _steps_recover(self) -> Prune:
        if self.steps > 1 and self.recovery is None:
            raise ValueError(
                f"steps = {self.steps} recovers between its steps, and there is no [prune.recovery]",
                "add [prune.recovery], which may be empty; or leave out steps",
            )
        return self

    @property
    def budgets(self) -> dict[str, float]:
        """The parts that may stay, by their keys."""
        given = {"keep_macs": self.keep_macs, "keep_params": self.keep_params, "keep_latency": self.keep_latency}
        found = {key: keep for key, keep in given.items() if keep is not None}
        return found or {"keep_macs": 0.7}


class Sparse(Table):
    """Single weights set to zero: on onnxruntime's CPU provider files compress better, and nothing is faster."""

    kind: Literal["sparse"]
    keep_weights: Keep = 0.5
    """The part of the weights of convolutions and linear layers, without the protected ones, that may stay."""
    pattern: Annotated[str, Field(pattern=r"^$|^\d+:\d+$", examples=["2:4"])] = ""
    """`N:M`: of every M weights along the inputs the N largest stay; where inputs are no multiple of M, all."""
    ranking: Literal["global", "uniform"] = "global"
    """The largest weights of all layers together, or the same part of each."""
    protect: tuple[str, ...] = ()
    """Paths of layers, or of what holds layers, whose weights stay."""
    recovery: Distill | None = None
    """Missing: what is left is not trained again."""

    @property
    def kept_of(self) -> tuple[int, int]:
        """N and M of the pattern."""
        keep, of = self.pattern.split(":")
        return int(keep), int(of)

    @model_validator(mode="after")
    def _pattern_keeps_some(self) -> Sparse:
        if self.pattern and "keep_weights" in self.model_fields_set:
            raise ValueError("keep_weights and pattern are both given", "give one: the other follows from it")
        if self.pattern and not 0 < self.kept_of[0] <= self.kept_of[1]:
            raise ValueError(f'pattern = "{self.pattern}" keeps nothing, or more than there is', "such as 2:4")
        return self


def _kind(given: object) -> str:
    """Return which of the tables [prune] is: channels where no kind is named."""
    return str(given.get("kind", "channels") if isinstance(given, dict) else getattr(given, "kind", "channels"))


Pruning = Annotated[Annotated[Prune, Tag("channels")] | Annotated[Sparse, Tag("sparse")], Discriminator(_kind)]


class Bench(Table):
    """How long is measured."""

    rounds: Annotated[int, Field(ge=5)] = 60
    """Interleaved rounds; each times every model once."""
    warmup: Annotated[int, Field(ge=1)] = 10


class Budget(Table):
    """What the shipped model must reach; a miss is exit code 3. Accuracies are fractions 0-1 on the test images."""

    min_accuracy: Fraction | None = Field(default=None, examples=[0.95])
    max_accuracy_drop: Annotated[float, Field(ge=-1, le=1)] | None = Field(default=None, examples=[0.01])
    """Teacher minus shipped."""
    max_latency_ms: Positive | None = Field(default=None, examples=[5.0])
    """Median, batch 1, on the target."""
    max_size_kb: Positive | None = Field(default=None, examples=[500])
    """Of model.onnx, in units of 1000 bytes."""

    def over(self, other: Budget) -> Budget:
        """Return this budget, with what it leaves open taken from the other."""
        return other.model_copy(update=self.model_dump(exclude_none=True))


class Compute(Table):
    """Where and how training runs. Part of a training's key: other values give other bytes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "float"] = "auto"
    """`auto`: the faster one where the processor multiplies bf16, measured once on the student; else float."""
    threads: Annotated[int, Field(ge=0)] = 0
    """0: all cores of this machine."""
    strategy: str = "auto"
    """Lightning Fabric's strategy."""
    compile: bool = False
    """Train through torch.compile; on a CPU it needs a C++ compiler."""


class AloneBudget(Table):
    """What `edgekd quantize` can judge."""

    max_accuracy_drop: Annotated[float, Field(ge=-1, le=1)] | None = Field(default=None, examples=[0.01])
    """Float file minus shipped: top-1 where there are classes, else the part of samples that differ."""


class Alone(Table):
    """What `edgekd quantize` takes of a recipe: how an ONNX file without one is quantized, and judged."""

    quantize: Quantize = Quantize()
    budget: AloneBudget = AloneBudget()
    bench: Bench = Bench()

    @model_validator(mode="after")
    def _has_no_train_to_draw_from(self) -> Alone:
        if self.quantize.study:
            raise ValueError("quantize.study draws from train, which a recipe has", "use --seed for another draw")
        return self


class Recipe(Table):
    """One build: data, networks, stages and budgets."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", examples=["parts"])]
    """Names the bundle."""
    data: Data
    teacher: Teacher
    student: Transfer | None = None
    """Missing: the teacher itself is pruned, exported and quantized."""
    distill: Distill | None = None
    prune: Pruning | None = None
    quantize: Quantize | None = None
    finetune: Finetune | None = None
    bench: Bench = Bench()
    budget: Budget = Budget()
    compute: Compute = Compute()
    folder: Annotated[Path, Field(exclude=True)] = Path()
    """Where the recipe lies; paths and code are found from here. Not a key of the file."""

    @model_validator(mode="after")
    def _transfers_have_weights(self) -> Recipe:
        for table, given in (("teacher", self.teacher), ("student", self.student)):
            if given is not None and not given.weights and (given.head == "replace" or given.freeze):
                key = "head" if given.head == "replace" else "freeze"
                raise ValueError(f"{table}.{key} is of given weights, and {table} has none", f"add {table}.weights")
        return self

    @model_validator(mode="after")
    def _stages_have_what_they_need(self) -> Recipe:
        if self.student is not None and not self.distill and not self.student.weights:
            raise ValueError(
                "[student] has no weights and nothing trains it: add [distill], or weights",
                "an empty [distill] takes the defaults: 20 epochs under the teacher",
            )
        if self.distill is not None and self.student is None:
            raise ValueError(
                "[distill] needs a [student]",
                'add [student] with model = "module:callable"; or leave out [distill]: then the teacher itself ships',
            )
        if self.distill is not None and self.distill.sparsity and not isinstance(self.prune, Prune):
            raise ValueError(
                "distill.sparsity is of the channels that [prune] will cut", "add [prune], or leave it out"
            )
        if self.finetune is not None and self.quantize is None:
            raise ValueError("[finetune] trains what int8 will round", "add [quantize], or leave it out")
        if self.prune is not None and self.prune.recovery is not None and self.prune.recovery.sparsity:
            raise ValueError("prune.recovery.sparsity comes too late", "distill.sparsity, before the cut, is the place")
        return self

    @model_validator(mode="after")
    def _augmentation_leaves_something(self) -> Recipe:
        for table, training in self.trainings.items():
            training.augment.check(self.data.shape, f"{table}.augment")
        return self

    @property
    def trainings(self) -> dict[str, Training]:
        """All trainings that the build will run, by their tables."""
        found = {
            "teacher.train": self.teacher.train if self.teacher.is_trained else None,
            "distill": self.distill,
            "prune.recovery": self.prune.recovery if self.prune else None,
            "finetune": self.finetune,
        }
        return {table: training for table, training in found.items() if training is not None}
