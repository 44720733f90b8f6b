"""Sparsity by groups: whole channels that will be cut together are pulled towards zero, the weak ones hardest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekd.errors import ModelError
from edgekd.models.channels import Group, Member, rows_of, weight_of
from edgekd.train.batches import Batch

_RANGE = 4.0


class Sparsity:
    """The penalty of DepGraph (Fang et al. 2023, arXiv:2301.12900, equations 5 and 6): Σ_k γ_k · ‖w_k‖² / 2.

    ‖w_k‖² sums the squares of all weights of channel k in all layers of its group; γ_k runs from 1 for the largest
    channel of a group to 2^4 for the smallest, and is held constant in the gradient. Raises ModelError where there is
    nothing to ask it of.
    """

    def __init__(self, module: nn.Module, groups: Sequence[Group], weight: float) -> None:
        layers = dict(module.named_modules())
        self._weight = weight
        self._groups: list[tuple[int, list[tuple[Tensor, Member]]]] = []
        for group in groups:
            found = [
                (matrix, member)
                for member in group.members
                if (matrix := weight_of(layers[member.layer])) is not None and matrix.requires_grad
            ]
            if found:
                self._groups.append((group.width, found))
        if not self._groups:
            raise ModelError("distill.sparsity: [prune] can cut no channels of this network", "leave sparsity out")

    def __call__(self) -> Tensor:
        """Return the penalty of the weights as they are, a scalar."""
        return self._weight * torch.stack([_penalty(width, members) for width, members in self._groups]).sum()


class WithSparsity(nn.Module):
    """A criterion and the penalty."""

    def __init__(self, criterion: nn.Module, sparsity: Sparsity) -> None:
        super().__init__()
        self.criterion = criterion
        self._sparsity = sparsity

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the sum for one batch."""
        loss: Tensor = self.criterion(logits, batch)
        return loss + self._sparsity()


def _penalty(width: int, members: list[tuple[Tensor, Member]]) -> Tensor:
    squares = torch.stack([rows_of(weight, member, width).square().sum(1) for weight, member in members]).sum(0)
    with torch.no_grad():
        span = (squares.max() - squares.min()).clamp_min(1e-12)
        strength = 2.0 ** (_RANGE * (squares.max() - squares) / span)
    return (strength * squares).sum() / 2
