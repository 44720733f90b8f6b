"""Which channels must be cut together: torch-pruning's dependency groups (Fang et al. 2023, arXiv:2301.12900)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import nn

from edgekd.errors import ModelError, did_you_mean
from edgekd.models.channels import Group, Member


class Dependencies:
    """The dependency graph of one module, traced once on a zero image."""

    def __init__(self, module: nn.Module, shape: tuple[int, int]) -> None:
        for parameter in module.parameters():
            # The graph is traced through gradients; a frozen layer would not be seen.
            parameter.requires_grad_(True)
        self._module = module.eval()
        self._names = {layer: name for name, layer in module.named_modules()}
        self._graph = tp.DependencyGraph()
        self._graph.build_dependency(module, example_inputs=torch.zeros(1, 3, *shape))

    def groups(self, last: str, protected: Sequence[str]) -> list[Group]:
        """Return all groups whose channels may be cut: not the logits, not protected ones, not grouped convolutions.

        Raises ModelError where a protected path matches nothing.
        """
        layers = dict(self._module.named_modules())
        for path in protected:
            if path not in layers:
                raise ModelError(
                    f'prune.protect: no layer "{path}"', did_you_mean(path, layers).strip() or "see the model's modules"
                )
        ignored = [layers[path] for path in (last, *protected)]
        found = self._graph.get_all_groups(ignored_layers=ignored, root_module_types=[nn.Conv2d, nn.Linear])
        groups = [self._group(group) for group in found]
        kept = {last, *protected}
        return sorted((group for group in groups if not self._is_rigid(group, kept)), key=lambda group: group.root)

    def cut(self, group: Group, channels: Sequence[int]) -> None:
        """Remove these channels of a group from every layer of it."""
        layer = dict(self._module.named_modules())[group.root]
        function = tp.prune_conv_out_channels if isinstance(layer, nn.Conv2d) else tp.prune_linear_out_channels
        self._graph.get_pruning_group(layer, function, idxs=list(channels)).prune()

    def _group(self, group: Any) -> Group:
        members = []
        for item in group:
            name = self._names.get(item.dep.target.module)
            if name is not None:
                side = "in" if item.dep.handler.__name__.endswith("in_channels") else "out"
                channels = _channels(item.dep.target.module, side)
                members.append(Member(name, side, tuple(item.idxs), channels))
        return Group(members[0].layer, len(members[0].indices), tuple(members))

    def _is_rigid(self, group: Group, kept: set[str]) -> bool:
        layers = dict(self._module.named_modules())
        for member in group.members:
            layer = layers[member.layer]
            if isinstance(layer, nn.Conv2d) and layer.groups > 1 and not _is_depthwise(layer):
                return True
            known = isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
            if not known and any(True for _ in layer.parameters()):
                return True  # a layer whose channels the plan cannot narrow
            if member.side == "out" and member.layer in kept:
                return True
        return False


def _is_depthwise(layer: nn.Conv2d) -> bool:
    return layer.groups == layer.in_channels == layer.out_channels


def _channels(layer: nn.Module, side: str) -> int:
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels if side == "in" else layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features if side == "in" else layer.out_features
    return int(getattr(layer, "num_features", 0))
