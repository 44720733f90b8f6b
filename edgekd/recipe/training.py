"""How a network is trained: schedule, augmentation, and under a teacher its losses and its cache."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from edgekd.recipe.basis import Fraction, NotNegative, Positive, Seed, Table, Temperature
from edgekd.recipe.losses import FeatureLoss, Kd, Loss

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh])")


class RandAugment(Table):
    """Cubuk et al. 2019 (arXiv:1909.13719): some operations out of 14, all of one strength."""

    operations: Annotated[int, Field(ge=1, le=4)] = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9


class Augment(Table):
    """What training images go through. All but mixup and cutmix is a function of (seed, image, view)."""

    crop: Annotated[int, Field(ge=0)] = 4
    """Pad by this many black pixels, then crop at random; 0: no crop."""
    flip: bool = True
    """Mirror half of the images left to right."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """At most this many degrees to either side."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Zoom by 1 - scale to 1 + scale."""
    colour: Fraction = 0.0
    """Brightness, contrast and saturation by 1 - colour to 1 + colour."""
    cutout: Annotated[int, Field(ge=0)] = 0
    """The side in pixels of a grey square; DeVries & Taylor 2017 (arXiv:1708.04552)."""
    randaugment: RandAugment | None = None
    mixup: NotNegative = 0.0
    """The parameter of Beta; Zhang et al. 2017 (arXiv:1710.09412). With cutmix too, each batch takes one of the two."""
    cutmix: NotNegative = 0.0
    """The parameter of Beta; Yun et al. 2019 (arXiv:1905.04899)."""

    @property
    def mixes(self) -> bool:
        """Whether two images become one, which depends on the batch."""
        return self.mixup > 0 or self.cutmix > 0

    def check(self, shape: tuple[int, int], table: str) -> None:
        """Raise ValueError where nothing would be left of images of this height and width.

        `table` is where this stands in the recipe, such as distill.augment.
        """
        for key, pixels in (("crop", self.crop), ("cutout", self.cutout)):
            if pixels < min(shape):
                continue
            if key in self.model_fields_set:
                raise ValueError(
                    f"{table}.{key} = {pixels} leaves nothing of images of {shape[0]}×{shape[1]} pixels",
                    f"it is in pixels: set it below {min(shape)}, or data.size above {pixels}",
                )
            raise ValueError(
                f"data.size = {list(shape)} is too small: by default {table}.{key} shifts images by {pixels} pixels",
                f"set data.size above {pixels}, such as 32; or {table}.{key} = 0",
            )


class Training(Table):
    """A schedule of the one training loop."""

    epochs: Annotated[int, Field(ge=1)] = 20
    budget: Annotated[str, Field(examples=["30m"])] = ""
    """Instead of epochs, a time on this machine: `90s`, `30m`, `2h`. Measured once, then kept as a number of epochs."""
    batch: Annotated[int, Field(ge=2, le=2**20)] = 128
    lr: Positive = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 5e-4
    schedule: Literal["cosine", "one-cycle"] = "cosine"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    clip: NotNegative = 0.0
    """The largest norm of all gradients together; 0: no clipping."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of the moving average that is kept in place of the last weights, such as 0.999; 0: none."""
    augment: Augment = Augment()
    select: Literal["auto", "best", "last"] = "auto"
    """Which epoch is kept. `auto`: the best on validation, or the last where given weights have seen those images."""
    seed: Seed = 0

    @field_validator("budget")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        if value and (not (found := _DURATION.fullmatch(value)) or float(found[1]) == 0):
            raise ValueError(f'"{value}" is not a time', 'a number above 0 and s, m or h: budget = "30m"')
        return value

    @model_validator(mode="after")
    def _epochs_or_budget(self) -> Training:
        if self.budget and "epochs" in self.model_fields_set:
            raise ValueError("epochs and budget are both given", "give one: the other follows from it")
        return self

    @property
    def budget_seconds(self) -> float:
        """The budget in seconds; 0 where epochs are given."""
        found = _DURATION.fullmatch(self.budget)
        return float(found[1]) * _SECONDS[found[2]] if found else 0.0


class TeacherCache(Table):
    """The teacher's logits, computed once per view of each image."""

    views: Annotated[int, Field(ge=1)] = 8
    """How many augmented views an image has; epoch e sees view e modulo views."""
    top: Annotated[int, Field(ge=0)] = 0
    """Keep only so many of the largest logits of each row, the rest as one number; 0: all."""


class Distill(Training):
    """Training under a teacher: alpha · cross-entropy + the weighted sum of the losses."""

    alpha: Fraction = 0.1
    """Weight of the hard labels."""
    temperature: Temperature = 4.0
    """Of the loss that is taken where none is named: kd with weight 1 - alpha."""
    loss: tuple[Loss, ...] = ()
    teacher_cache: TeacherCache | None = None
    sparsity: NotNegative = 0.0
    """Weight of the norms of channels that [prune] will cut together, such as 5e-4: it finds less in them; 0: none."""
    seeds: tuple[Seed, ...] = ()
    """Train once per seed and report mean and spread; the first one's student goes on."""

    @model_validator(mode="after")
    def _losses_fit_together(self) -> Distill:
        if self.loss and "temperature" in self.model_fields_set:
            raise ValueError("temperature stands beside [[distill.loss]]", "give it in each loss that has one")
        if self.augment.mixes and any(term.kind == "dkd" for term in self.loss):
            raise ValueError(
                "dkd splits the logits by the label, and a mixed image (mixup, cutmix) has two",
                "take kd in place of dkd, or no mixing",
            )
        return self

    @model_validator(mode="after")
    def _cache_can_hold_what_is_asked(self) -> Distill:
        if self.teacher_cache is None:
            return self
        if self.augment.mixes:
            raise ValueError(
                "teacher_cache cannot hold mixed images (mixup, cutmix): their pairs are new in each batch",
                "leave out teacher_cache, or the mixing",
            )
        feature = next((term for term in self.loss if isinstance(term, FeatureLoss)), None)
        if feature is not None:
            raise ValueError(
                f'teacher_cache holds logits alone, and the loss "{feature.kind}" looks at the teacher\'s layers',
                "leave out teacher_cache, or take losses of logits: kd, dkd, dist, mse",
            )
        return self

    @model_validator(mode="after")
    def _seeds_are_distinct(self) -> Distill:
        if self.seeds and "seed" in self.model_fields_set:
            raise ValueError("seed and seeds are both given", "name all of them in seeds")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is named twice in seeds", "each one trains once")
        return self

    @property
    def terms(self) -> tuple[Loss, ...]:
        """The losses under the teacher; none where alpha = 1 leaves it nothing to say."""
        if self.loss:
            return self.loss
        return (Kd(weight=1 - self.alpha, temperature=self.temperature),) if self.alpha < 1 else ()


class Finetune(Distill):
    """Quantization-aware distillation: the ONNX graph itself trains, rounded as the target will round it."""

    epochs: Annotated[int, Field(ge=1)] = 2
    lr: Positive = 0.001
    weight_decay: NotNegative = 0.0
    clip: NotNegative = 5.0

    @model_validator(mode="after")
    def _only_what_a_graph_can_do(self) -> Finetune:
        for key, given in (("teacher_cache", self.teacher_cache), ("sparsity", self.sparsity), ("seeds", self.seeds)):
            if given:
                raise ValueError(f"{key} has no place in [finetune]", "leave it out: it is a few epochs of one graph")
        if self.budget:
            raise ValueError("budget has no place in [finetune]", "give epochs")
        feature = next((term for term in self.loss if isinstance(term, FeatureLoss)), None)
        if feature is not None:
            raise ValueError(
                f'the loss "{feature.kind}" looks at layers, of which a simplified graph has no names left',
                "take losses of logits: kd, dkd, dist, mse",
            )
        return self
