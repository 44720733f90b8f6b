"""The tables of the teacher and the student: a network, and what it takes over from given weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edgekd.recipe.basis import Arguments, FilePath, Fraction, Pixels, Table
from edgekd.recipe.training import Training


class Model(Table):
    """A network: a callable, its arguments, perhaps its weights and the normalisation that they were trained with."""

    model: str = Field(examples=["torchvision.models:resnet18"])
    """`module:callable` that returns a torch.nn.Module; a module beside the recipe, or an installed one."""
    args: Arguments = Field(default_factory=dict)
    weights: FilePath = Field(default="", examples=["weights.pt"])
    """A safetensors file, or a torch file of tensors only; relative to the recipe. Empty: starts from the seed."""
    mean: Pixels | None = Field(default=None, examples=[[123.675, 116.28, 103.53]])
    """Per channel, in pixel units 0-255. Must be given with weights; else 128."""
    std: Pixels | None = Field(default=None, examples=[[58.395, 57.12, 57.375]])
    """Per channel, in pixel units 0-255. Must be given with weights; else 64."""
    saw_train: bool = True
    """Whether the given weights were trained on this train folder: then no epoch is chosen on images out of it."""

    @model_validator(mode="after")
    def _weights_come_with_their_normalisation(self) -> Model:
        if self.weights and (self.mean is None or self.std is None):
            raise ValueError(
                "weights need the mean and std (pixel units, 0-255) that they were trained with",
                "for torchvision's weights mean = [123.675, 116.28, 103.53] and std = [58.395, 57.12, 57.375]",
            )
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be above 0", "pixels are divided by it; without normalisation it is [1, 1, 1]")
        return self


class Transfer(Model):
    """A network with what it takes over from given weights, and the files that its code reads."""

    head: Literal["keep", "replace"] = "keep"
    """`replace`: the last layer of weights for other classes starts anew, all before it is taken over."""
    freeze: tuple[str, ...] = Field(default=(), examples=[["layer1"]])
    """Paths of layers, or of what holds layers, that keep the given weights while the network learns."""
    files: tuple[FilePath, ...] = Field(default=(), examples=[["weights.pt"]])
    """Files that the network's own code reads, relative to the recipe: a change of one builds anew."""

    @property
    def saw_this_train(self) -> bool:
        """Whether the given weights know this train folder; those of other classes come from other images."""
        return bool(self.weights) and self.saw_train and self.head == "keep"

    def bare(self) -> Model:
        """Return what decides the initial bytes beside the weights and the code, which are hashed by content."""
        if self.head == "keep" and not self.freeze:
            return Model(model=self.model, args=self.args, mean=self.mean, std=self.std)
        return Transfer(
            model=self.model, args=self.args, mean=self.mean, std=self.std, head=self.head, freeze=self.freeze
        )


class Teacher(Transfer):
    """The network that supervises. Without weights, or with a new head, it is trained first, by `[teacher.train]`."""

    train: Training = Training()
    min_teacher: Fraction | None = Field(default=None, examples=[0.8])
    """The least accuracy on validation that a teacher must show; default: three times chance, at most half way to 1."""

    @property
    def is_trained(self) -> bool:
        """Whether it is trained on the labels before it supervises."""
        return not self.weights or self.head == "replace"


def least_top1(classes: int) -> float:
    """Return what a network that knows its classes reaches at least: three times chance, at most half way to 1."""
    chance = 1 / classes
    return min(3 * chance, (1 + chance) / 2)
