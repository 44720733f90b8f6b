"""The losses that `[[distill.loss]]` may name: a type each, whose kind is its function's name in distill/losses.py."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgekd.recipe.basis import NotNegative, Positive, Table, Temperature


class LogitLoss(Table):
    """A loss between the logits of teacher and student."""

    kind: str
    weight: Positive = 1.0
    standardize: bool = False
    """Each row of logits to mean 0 and deviation 1 first; Sun et al. 2024 (arXiv:2403.01427)."""


class FeatureLoss(Table):
    """A loss between the output of a layer of the teacher and one of the student, each a module path."""

    kind: str
    weight: Positive
    teacher: str
    student: str


class Kd(LogitLoss):
    """Hinton et al. 2015."""

    kind: Literal["kd"] = "kd"
    temperature: Temperature = 4.0


class Dkd(LogitLoss):
    """Decoupled: Zhao et al. 2022."""

    kind: Literal["dkd"] = "dkd"
    temperature: Temperature = 4.0
    alpha: NotNegative = 1.0
    """Weight of the labelled class against the others."""
    beta: NotNegative = 2.0
    """Weight of the others among themselves. The authors' value depends on the pair; see `dkd` in distill/losses.py."""


class Dist(LogitLoss):
    """Correlations: Huang et al. 2022."""

    kind: Literal["dist"] = "dist"
    temperature: Temperature = 4.0
    beta: NotNegative = 2.0
    """Weight of the relation between the classes of an image."""
    gamma: NotNegative = 2.0
    """Weight of the relation between the images of a class."""


class Mse(LogitLoss):
    """Squared differences of logits: Ba & Caruana 2014."""

    kind: Literal["mse"] = "mse"


class Hint(FeatureLoss):
    """Squared differences of feature maps: Romero et al. 2014."""

    kind: Literal["hint"] = "hint"
    weight: Positive = 100.0
    regressor: bool = False
    """Train a 1×1 convolution from the student's map to the teacher's at equal widths too; at others there is one."""


class Attention(FeatureLoss):
    """Maps of where features are large: Zagoruyko & Komodakis 2017."""

    kind: Literal["attention"] = "attention"
    weight: Positive = 1000.0
    power: Annotated[float, Field(ge=1)] = 2.0


class Relational(FeatureLoss):
    """Distances and angles between the images of a batch: Park et al. 2019."""

    kind: Literal["rkd"] = "rkd"
    weight: Positive = 1.0
    distance: NotNegative = 25.0
    angle: NotNegative = 50.0


class Similarity(FeatureLoss):
    """Which images of a batch are alike: Tung & Mori 2019."""

    kind: Literal["sp"] = "sp"
    weight: Positive = 3000.0


Loss = Annotated[
    Kd | Dkd | Dist | Mse | Hint | Attention | Relational | Similarity,
    Field(discriminator="kind"),
]
