"""What a student is trained by: the labels, and the losses that the recipe names, under a teacher."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.distill import losses
from edgekd.distill.taps import Taps
from edgekd.errors import ModelError
from edgekd.recipe import Distill, FeatureLoss, Hint, LogitLoss
from edgekd.train.batches import Batch

Supervise = Callable[[Batch], Tensor]
"""A batch -> the teacher's logits float32 [B, classes]."""

_NOT_OF_THE_FUNCTION = {"kind", "weight", "standardize", "teacher", "student", "regressor"}
"""Fields of a loss's type that are read here; its function takes all others."""


class CrossEntropy(nn.Module):
    """The labels alone; of mixed images either label by its share."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self._smoothing = label_smoothing

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the mean over the batch."""
        if batch.others is None or batch.share is None:
            return F.cross_entropy(logits, batch.labels, label_smoothing=self._smoothing)
        own, other = (
            F.cross_entropy(logits, labels, label_smoothing=self._smoothing, reduction="none")
            for labels in (batch.labels, batch.others)
        )
        return torch.lerp(other, own, batch.share).mean()


class UnderTeacher(nn.Module):
    """alpha · cross-entropy + Σ weight · loss, the losses between logits and between layers."""

    def __init__(self, config: Distill, supervise: Supervise | None, features: Features | None) -> None:
        super().__init__()
        self.features = features
        self._config = config
        self._hard = CrossEntropy(config.label_smoothing)
        self._supervise = supervise
        self._of_logits = [_of_logits(term) for term in config.terms if isinstance(term, LogitLoss)]

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss of a batch from the student's logits [B, classes]."""
        total: Tensor = self._config.alpha * self._hard(logits, batch)
        if self._supervise is None:
            return total
        taught = self._supervise(batch)
        for loss in self._of_logits:
            total = total + loss(logits, taught, batch.labels)
        return total if self.features is None else total + self.features()


class Features(nn.Module):
    """The weighted sum of the losses between layers, from what the taps saw in the last forward passes."""

    def __init__(self, terms: tuple[FeatureLoss, ...], pairs: tuple[Pair, ...], student: Taps, teacher: Taps) -> None:
        super().__init__()
        self.regressors = nn.ModuleList(_regressor(term, pair) for term, pair in zip(terms, pairs, strict=True))
        self._terms = terms
        self._losses = [_function(term) for term in terms]
        self._student, self._teacher = student, teacher

    def forward(self) -> Tensor:
        """Return the sum."""
        values = []
        for term, loss, regressor in zip(self._terms, self._losses, self.regressors, strict=True):
            student, teacher = self._student.take(term.student), self._teacher.take(term.teacher)
            values.append(term.weight * loss(*_matched(regressor(student), teacher)))
        return torch.stack(values).sum()


@dataclass(frozen=True)
class Pair:
    """The shapes, without the batch, of what two layers give."""

    student: tuple[int, ...]
    teacher: tuple[int, ...]

    def check(self, term: FeatureLoss) -> None:
        """Raise ModelError where the two cannot be compared by this loss."""
        names = f'"{term.student}" of the student gives {self.student}, "{term.teacher}" of the teacher {self.teacher}'
        if term.kind in ("rkd", "sp"):
            return
        ranks = {len(self.student), len(self.teacher)}
        if ranks != {3} and (term.kind == "attention" or ranks != {1}):
            raise ModelError(
                f"the loss {term.kind} cannot match these layers: {names} (without the batch)",
                "name layers that give feature maps [C, H, W] on both sides; rkd and sp take any shapes",
            )
        for one, other in zip(self.student[1:], self.teacher[1:], strict=True):
            if max(one, other) % min(one, other):
                raise ModelError(
                    f"the loss {term.kind} cannot match the sizes of these feature maps: {names}",
                    "name layers whose height and width are equal, or one a multiple of the other",
                )


def _regressor(term: FeatureLoss, pair: Pair) -> nn.Module:
    """Return FitNets' 1×1 convolution from the student's width to the teacher's, where it is needed or asked for."""
    if not isinstance(term, Hint) or (pair.student[0] == pair.teacher[0] and not term.regressor):
        return nn.Identity()
    if len(pair.student) == 1:
        return nn.Linear(pair.student[0], pair.teacher[0])
    return nn.Conv2d(pair.student[0], pair.teacher[0], 1)


def _matched(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average the larger of two feature maps down to the smaller one; other shapes stay."""
    if student.ndim != 4 or teacher.ndim != 4 or student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)


def _of_logits(term: LogitLoss) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    function = _function(term)

    def weighted(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        if term.standardize:
            student, teacher = losses.standardized(student), losses.standardized(teacher)
        return term.weight * function(student, teacher, labels)

    return weighted


def _function(term: LogitLoss | FeatureLoss) -> Callable[..., Tensor]:
    """Return the function of a loss's kind with the recipe's parameters; tests hold the two against each other."""
    parameters = {name: value for name, value in term.model_dump().items() if name not in _NOT_OF_THE_FUNCTION}
    return functools.partial(getattr(losses, term.kind), **parameters)
