"""How much a channel matters: one pure function a kind, each of a layer's channels as rows, and their sum over a group.

Of weights: rows float64 [width, weights of the channel] -> [width]. A recipe names a kind by its function's name.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.errors import ModelError
from edgekd.models.channels import Group, rows_of, weight_of


def l1(rows: Tensor) -> Tensor:
    """Li et al. 2016, "Pruning Filters for Efficient ConvNets" (arXiv:1608.08710): Σ |w|."""
    return rows.abs().sum(1)


def l2(rows: Tensor) -> Tensor:
    """√(Σ w²), the measure of He et al. 2018, "Soft Filter Pruning" (arXiv:1808.06866)."""
    return rows.square().sum(1).sqrt()


def fpgm(rows: Tensor) -> Tensor:
    """He et al. 2019, "Filter Pruning via Geometric Median" (arXiv:1811.00250), equation 4: Σ_j ‖w - w_j‖.

    Small where the others could stand in for a channel, however large it is itself.
    """
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").sum(1)


def lamp(rows: Tensor) -> Tensor:
    """Lee et al. 2021, "Layer-adaptive sparsity for the Magnitude-based Pruning" (arXiv:2010.07611), equation 4.

    ‖w‖² / Σ ‖w_j‖² over the channels j that are not smaller; the largest one scores 1. Made for ranking over layers.
    """
    squares = rows.square().sum(1)
    order = squares.argsort(descending=True, stable=True)
    scores = torch.empty_like(squares)
    scores[order] = squares[order] / squares[order].cumsum(0).clamp_min(1e-300)
    return scores


def taylor(weights: Tensor, gradients: Tensor) -> Tensor:
    """Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning" (arXiv:1906.10771), equation 8.

    (Σ g · w)² of one batch, rows [width, weights of the channel]: what the loss would change, to first order, squared.
    """
    return (weights * gradients).sum(1).square()


def activation(outputs: Tensor) -> Tensor:
    """Molchanov et al. 2016 (arXiv:1611.06440), section 2.2: the mean of |output| of each channel, [B, C, …] -> [C]."""
    return outputs.abs().transpose(0, 1).flatten(1).mean(1)


def of_weights(group: Group, module: nn.Module, kind: str, frozen: frozenset[str]) -> Tensor:
    """Return the importance of each channel of a group from the weights that make or read it, float64 [width].

    As in Fang et al. 2023 each layer is scaled to a mean of 1 over the group's channels, and the group's layers are
    summed: what is read by many layers matters more. `lamp` is of the whole group's squares, and not scaled. Frozen
    layers carry no learnt weight and do not count.
    """
    layers = dict(module.named_modules())
    weights = [
        rows_of(weight.detach(), member, group.width).double()
        for member in group.members
        if (weight := weight_of(layers[member.layer])) is not None and member.layer not in frozen
    ]
    if kind == "lamp" and weights:
        return lamp(torch.cat(weights, dim=1))
    function = {"l1": l1, "l2": l2, "fpgm": fpgm}[kind]
    total = torch.zeros(group.width, dtype=torch.float64)
    for rows in weights:
        total += _scaled(function(rows))
    return total


def of_batchnorm(group: Group, module: nn.Module) -> Tensor:
    """Liu et al. 2017, "Network Slimming" (arXiv:1708.06519): |γ|, the mean over the group's BatchNorms, [width].

    Raises ModelError for a group without one.
    """
    layers = dict(module.named_modules())
    scales = [
        layer.weight.detach().double().abs()[list(member.indices)].reshape(group.width, -1).mean(1)
        for member in group.members
        if isinstance(layer := layers[member.layer], nn.BatchNorm2d) and layer.weight is not None
    ]
    if not scales:
        raise ModelError(
            f'prune.importance = "batchnorm": the channels of {group.root} go through no BatchNorm',
            "take another importance, or protect that layer",
        )
    return torch.stack(scales).mean(0)


def of_gradients(groups: Sequence[Group], module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Return `taylor` of each group, the mean over its layers and over batches (inputs [B, 3, H, W], labels [B])."""
    layers = dict(module.named_modules())
    totals = [torch.zeros(group.width, dtype=torch.float64) for group in groups]
    for inputs, labels in batches:
        module.zero_grad(set_to_none=True)
        F.cross_entropy(module(inputs), labels).backward()  # type: ignore[no-untyped-call]
        for number, group in enumerate(groups):
            totals[number] += _taylor_of(group, layers)
    module.zero_grad(set_to_none=True)
    return totals


def _taylor_of(group: Group, layers: dict[str, nn.Module]) -> Tensor:
    """Return the mean over the group's layers of `taylor`, from the gradients that the last batch left."""
    found = []
    for member in group.members:
        weight = layers[member.layer].weight if weight_of(layers[member.layer]) is not None else None
        if isinstance(weight, Tensor) and weight.grad is not None:
            rows = [rows_of(values, member, group.width).double() for values in (weight.detach(), weight.grad)]
            found.append(taylor(*rows))
    return torch.stack(found).mean(0) if found else torch.zeros(group.width, dtype=torch.float64)


@torch.no_grad()
def of_outputs(groups: Sequence[Group], module: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Return `activation` of each group over batches: each layer that makes its channels is scaled, all are summed."""
    layers = dict(module.named_modules())
    making = {member.layer for group in groups for member in group.members if member.side == "out"}
    means: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(layer: nn.Module, inputs: object, output: Tensor) -> None:
            by_channel = output.movedim(-1, 1) if isinstance(layer, nn.Linear) else output
            means[name] = means.get(name, 0) + activation(by_channel.double())

        return hook

    handles = [layers[name].register_forward_hook(keep(name)) for name in sorted(making)]
    for inputs, _ in batches:
        module(inputs)
    for handle in handles:
        handle.remove()
    return [
        torch.stack([
            _scaled(means[member.layer][list(member.indices)].reshape(group.width, -1).mean(1))
            for member in group.members
            if member.side == "out" and member.layer in means
        ]).sum(0)
        for group in groups
    ]  # fmt: skip


def at_random(group: Group, seed: int) -> Tensor:
    """Return uniform numbers, the control that every other kind must beat; of the group's name and the seed alone."""
    generator = torch.Generator().manual_seed(seed ^ zlib.crc32(group.root.encode()))
    return torch.rand(group.width, generator=generator, dtype=torch.float64)


def _scaled(scores: Tensor) -> Tensor:
    return scores / scores.mean().clamp_min(1e-12)
