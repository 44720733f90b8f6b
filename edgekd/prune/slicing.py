"""Channels taken out of the layers that make and read them, by the groups' own indices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekd.prune.candidates import Cut


def cut_channels(module: nn.Module, cuts: Sequence[Cut]) -> None:
    """Remove the channels from every layer of their groups, in place. What is frozen stays frozen."""
    gone: dict[str, dict[str, set[int]]] = {}
    for cut in cuts:
        for member in cut.group.members:
            indices = cut.group.indices(member, cut.channels)
            gone.setdefault(member.layer, {"in": set(), "out": set()})[member.side].update(indices)
    for path, sides in gone.items():
        _narrow(module.get_submodule(path), sides["in"], sides["out"])


def _narrow(layer: nn.Module, inputs: set[int], outputs: set[int]) -> None:
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        _narrow_grouped(layer, outputs)
    elif isinstance(layer, nn.Conv2d | nn.Linear):
        rows, columns = _left(layer.weight.shape[0], outputs), _left(layer.weight.shape[1], inputs)
        layer.weight = _taken(layer.weight, rows, columns)
        layer.bias = None if layer.bias is None else _taken(layer.bias, rows)
        if isinstance(layer, nn.Conv2d):
            layer.in_channels, layer.out_channels = len(columns), len(rows)
        else:
            layer.in_features, layer.out_features = len(columns), len(rows)
    elif isinstance(layer, nn.BatchNorm2d):
        rows = _left(layer.num_features, outputs)
        layer.num_features = len(rows)
        for name in ("weight", "bias"):
            if getattr(layer, name) is not None:
                setattr(layer, name, _taken(getattr(layer, name), rows))
        for name in ("running_mean", "running_var"):
            if getattr(layer, name) is not None:
                setattr(layer, name, getattr(layer, name)[rows].clone())


def _narrow_grouped(layer: nn.Conv2d, outputs: set[int]) -> None:
    """Take whole groups out of a convolution in groups, of which a depthwise one is the extreme."""
    of_inputs = layer.in_channels // layer.groups
    rows = _left(layer.out_channels, outputs)
    layer.groups = len(rows) * layer.groups // layer.out_channels
    layer.weight = _taken(layer.weight, rows)
    layer.bias = None if layer.bias is None else _taken(layer.bias, rows)
    layer.in_channels, layer.out_channels = layer.groups * of_inputs, len(rows)


def _left(channels: int, gone: set[int]) -> Tensor:
    return torch.tensor([channel for channel in range(channels) if channel not in gone], dtype=torch.int64)


def _taken(parameter: nn.Parameter | Tensor, rows: Tensor, columns: Tensor | None = None) -> nn.Parameter:
    values = parameter.detach()[rows]
    values = values if columns is None else values[:, columns]
    return nn.Parameter(values.clone(), requires_grad=parameter.requires_grad)
