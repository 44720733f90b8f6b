"""Which channels must be cut together: torch-pruning's dependency groups (Fang et al. 2023, arXiv:2301.12900)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch_pruning as tp
from torch import nn
from torch.nn.utils import parametrize

from edgekd.errors import ModelError
from edgekd.models.channels import Group, Member
from edgekd.prune.coupling import coupled

_IMAGE = 4


class Dependencies:
    """The dependency graph of one module, traced once on a zero image.

    `kept` says why channels stay whole, by a layer that makes them, once `groups` was asked; `whole` says so of every
    layer that makes them.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, int]) -> None:
        for parameter in module.parameters():
            # The graph is traced through gradients; a frozen layer would not be seen.
            parameter.requires_grad_(True)
        self._module = module.eval()
        self._names = {layer: name for name, layer in module.named_modules()}
        self._graph = _Graph()
        self._tied = _tied(module)
        self.kept: dict[str, str] = {}
        self.whole: dict[str, str] = {}
        try:
            self._graph.build_dependency(module, example_inputs=torch.zeros(1, 3, *shape), verbose=False)
        except Exception as error:
            # torch-pruning raises whatever its assumptions about shapes run into.
            raise ModelError(
                f"prune: the network's channels cannot be followed: {type(error).__name__}: {error}",
                "torch-pruning traces autograd's graph; what it cannot trace cannot be cut: leave out [prune]",
            ) from None

    def groups(self, last: str, protected: Sequence[str]) -> list[Group]:
        """Return all groups whose channels may be cut: not the logits, not of the protected layers, not rigid ones."""
        layers = dict(self._module.named_modules())
        ignored = [layers[path] for path in (last, *protected)]
        found = self._graph.get_all_groups(ignored_layers=ignored, root_module_types=[nn.Conv2d, nn.Linear])
        groups, every = [], []
        for each in found:
            group = self._group(each)
            every.append(group)
            why = self._why_rigid(each, group, {last, *protected})
            if why:
                self.kept[group.root] = why
            else:
                groups.append(group)
        found_together, kept = coupled(sorted(groups, key=lambda group: group.root), layers)
        self.kept |= kept
        self.whole = {
            member.layer: self.kept[group.root]
            for group in every
            for member in group.members
            if member.side == "out" and group.root in self.kept
        } | dict.fromkeys(protected, "prune.protect names them")
        self.whole[last] = "it gives the logits"
        return found_together

    def _group(self, group: Any) -> Group:
        members = []
        for item in group:
            name = self._names.get(item.dep.target.module)
            if name is not None:
                side = "in" if item.dep.handler.__name__.endswith("in_channels") else "out"
                channels = _channels(item.dep.target.module, side)
                members.append(Member(name, side, tuple(item.idxs), channels))
        return Group(members[0].layer, len(members[0].indices), tuple(members))

    def _why_rigid(self, found: Any, group: Group, kept: set[str]) -> str:
        """Return why a group's channels cannot be cut, or nothing."""
        if any(item.dep.target in self._graph.beside_opaque for item in found):
            return "they go through a reshape that mixes channels"
        if any(item.dep.target.type == tp.ops.OPTYPE.PARAMETER for item in found):
            return "a parameter outside of layers is as wide as they are, and only layers are narrowed"
        layers = dict(self._module.named_modules())
        if any(member.side == "out" and member.layer in kept for member in group.members):
            return "protected"
        reasons = (self._why_member(member, layers[member.layer], group.width) for member in group.members)
        return next((f"{member.layer} {why}" for member, why in zip(group.members, reasons, strict=True) if why), "")

    def _why_member(self, member: Member, layer: nn.Module, width: int) -> str:
        if parametrize.is_parametrized(layer):
            return "is parametrized"
        if member.layer in self._tied:
            return "shares its weights with another layer"
        known = isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
        if not known and any(True for _ in layer.parameters()):
            return f"is a {type(layer).__name__}; only Conv2d, Linear and BatchNorm2d are narrowed"
        if len(member.indices) % width or max(member.indices) >= max(1, member.channels):
            return "does not take them in equal parts"
        return ""


class _Graph(tp.DependencyGraph):  # type: ignore[misc]
    """torch-pruning's graph, which knows what it does not know.

    Its 1.6.1 takes every reshape of four dimensions for a flatten, and fails on ShuffleNet's channel shuffle with a
    division by zero. Here nothing is followed through such a node, and the channels beside it are kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.beside_opaque: set[Any] = set()

    def _build_dependency(self, module2node: dict[Any, Any]) -> None:
        super()._build_dependency(module2node)
        opaque = {node for node in module2node.values() if node.type == tp.ops.OPTYPE.RESHAPE and _mixes_channels(node)}
        for node in module2node.values():
            if node in opaque:
                node.type, node.dependencies = tp.ops.OPTYPE.ELEMENTWISE, []
                continue
            through = [dependency for dependency in node.dependencies if dependency.target in opaque]
            if through:
                self.beside_opaque.add(node)
                node.dependencies = [dependency for dependency in node.dependencies if dependency not in through]


def _mixes_channels(node: Any) -> bool:
    """Whether a reshape is no flatten: of more than four dimensions, or with a transpose right behind it."""
    sizes = getattr(node.grad_fn, "_saved_self_sym_sizes", ())
    behind = [other.grad_fn.name() for other in node.outputs if other.grad_fn is not None]
    return len(sizes) > _IMAGE or any(name.startswith(("Transpose", "Permute")) for name in behind)


def _tied(module: nn.Module) -> set[str]:
    """Return the layers that hold a parameter which another layer holds too."""
    holders: dict[int, set[str]] = {}
    for path, layer in module.named_modules(remove_duplicate=False):
        for parameter in layer.parameters(recurse=False):
            holders.setdefault(id(parameter), set()).add(path)
    return {path for paths in holders.values() if len(paths) > 1 for path in paths}


def _channels(layer: nn.Module, side: str) -> int:
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels if side == "in" else layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features if side == "in" else layer.out_features
    return int(getattr(layer, "num_features", 0))
