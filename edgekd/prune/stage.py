"""The stage `prune`: cut whole channels and blocks to budgets, estimate BatchNorm anew. Recovery is distill's loop."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from edgekd.errors import ModelError
from edgekd.latency import Table
from edgekd.models import channels, network
from edgekd.models.network import Network, Width
from edgekd.prune import batchnorm, blocks, importance, looking, macs, shapes, unreachable
from edgekd.prune.candidates import Block, Candidates, Choice, Limit, Proportional, Shape
from edgekd.prune.following import cut_out, not_followed, why_lost
from edgekd.prune.groups import Dependencies
from edgekd.prune.protecting import protected
from edgekd.prune.search import choose, narrowest
from edgekd.prune.sensitivity import Sensitivity
from edgekd.recipe import Prune
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.stage import Metrics, stage
from edgekd.train.device import Place
from edgekd.workload import arrays
from edgekd.workload.dataset import Split

_BATCHNORM_IMAGES = 2048


@stage(writes="network", version=4, tools=("torch", "torch-pruning", "safetensors"))
def prune(
    out: Path,
    run: Run,
    start: Path,
    code: Ref,
    train: Path,
    table: Path | None,
    watched: tuple[str, ...],
    config: Prune,
    place: Place,
) -> Metrics:
    """Write the narrower network.

    `table` holds its layers' latencies, where keep_latency is asked; blocks that hold a layer of `watched` stay.
    Raises ModelError when a budget cannot be reached or nothing can be followed.
    """
    # The order of float sums depends on it, and so do the new statistics.
    torch.set_num_threads(place.threads)
    whole = network.load(start, code)
    split = arrays.load(train)
    shape = (int(split.images.shape[1]), int(split.images.shape[2]))
    times = None if table is None else Table.model_validate_json(table.read_bytes())
    before = _limits(whole.module, shape, config, times)
    cutter = _Cutter(whole, code, shape, watched, config)
    choice, cut = cutter.cut(before, split, place, run)
    narrow = network.build(_plan(whole, choice, cut), code)
    network.fill(narrow.module, cut.state_dict(), "pruned")
    images = looking.batches(split, _BATCHNORM_IMAGES, whole.plan.normalisation)
    batchnorm.estimate(narrow.module, (batch for batch, _ in images))
    network.save(narrow, out)
    after = _limits(narrow.module, shape, config, times)
    _check(before, after)
    costs = {limit.key: (was.whole, limit.whole) for was, limit in zip(before, after, strict=True)}
    return {
        "macs": int(costs["keep_macs"][1]),
        "macs_before": int(costs["keep_macs"][0]),
        "parameters": int(costs["keep_params"][1]),
        "parameters_before": int(costs["keep_params"][0]),
        "groups": {each.group.root: [each.group.width, each.group.width - len(each.channels)] for each in choice.cuts},
        "blocks": list(choice.blocks),
        "stay_whole": cutter.stay_whole,
        "predicted": {key: now / was for key, (was, now) in costs.items()},
    }


@stage(name="couple", writes="groups.json", version=1, tools=("torch", "torch-pruning"))
def couple(out: Path, run: Run, start: Path, code: Ref, shape: tuple[int, int], protect: tuple[str, ...]) -> Metrics:
    """Write which channels can only be cut together: what sparsity is asked of before the cut."""
    module = network.load(start, code).module
    kept = protected(module, protect)
    groups = Dependencies(module, shape).groups(_last(module, shape), kept)
    channels.write(groups, out)
    return {"groups": len(groups)}


def smallest(
    start: Path, code: Ref, shape: tuple[int, int], table: Table, watched: tuple[str, ...], config: Prune
) -> float:
    """Return the smallest part of the latency, by the table, that can be reached by any cut at all."""
    whole = network.load(start, code)
    limit = Limit("keep_latency", shapes.prices(whole.module, shape, table), 0.0)
    return _Cutter(whole, code, shape, watched, config).smallest(limit, Shape(_block_of(config), config.floor))


class _Cutter:
    """One network and what may be cut of it. `stay_whole` says of the rest why."""

    def __init__(
        self, whole: Network, code: Ref, shape: tuple[int, int], watched: tuple[str, ...], config: Prune
    ) -> None:
        self._whole, self._shape, self._config = whole, shape, config
        self._admissible = Shape(_block_of(config), config.floor)
        last, kept = _last(whole.module, shape), protected(whole.module, config.protect)
        dependencies = Dependencies(copy.deepcopy(whole.module), shape)
        self._groups = dependencies.groups(last, kept)
        first = network.build(whole.plan.model_copy(update={"removed": (), "widths": {}}), code).module
        self._originals = [_outputs(first.get_submodule(group.root)) // group.unit for group in self._groups]
        self._blocks: list[str] = []
        if config.depth and config.ranking == "sensitivity":
            self._blocks = blocks.removable(copy.deepcopy(whole.module), shape, (*kept, *watched, last))
        self.stay_whole = {root: why for root, why in dependencies.kept.items() if why != "protected"}
        self._whole_layers = dict(dependencies.whole)

    def cut(self, limits: list[Limit], split: Split, place: Place, run: Run) -> tuple[Choice, nn.Module]:
        """Return what is cut for the limits, and a copy of the module without it."""
        ranking: Literal["greedy", "uniform"] = "uniform" if self._config.ranking == "uniform" else "greedy"

        def choose_of(candidates: Candidates) -> Choice:
            try:
                return choose(candidates, limits, self._admissible, ranking)
            except ModelError as error:
                raise ModelError(error.message, self._advice(candidates, limits)) from None

        return self._followed(self._candidates(split, place), choose_of, run)

    def _advice(self, candidates: Candidates, limits: list[Limit]) -> str:
        """Return a hint that holds: each least that it names was really cut, and followed."""
        limit = unreachable.missed(candidates, limits, self._admissible)
        least = self.smallest(limit, self._admissible)
        lower = {words: self.smallest(limit, shape) for words, shape in unreachable.others(self._admissible).items()}
        return unreachable.hint(limit, least, lower, self._whole_layers)

    def smallest(self, limit: Limit, shape: Shape) -> float:
        """Return the smallest part of a cost that can be reached."""
        orders = [np.arange(group.width) for group in self._groups]
        nothing = [np.zeros(group.width + 1) for group in self._groups]
        found = [Block(path, blocks.layers_in(path, self._whole.module), 0.0) for path in self._blocks]
        parts = []

        def narrowest_of(candidates: Candidates) -> Choice:
            choice, part = narrowest(candidates, limit, shape)
            parts.append(part)
            return choice

        every = Candidates(self._groups, orders, nothing, found, self._originals)
        self._followed(every.without(self.stay_whole), narrowest_of, Run())
        return parts[-1]

    def _followed(
        self, candidates: Candidates, choose_of: Callable[[Candidates], Choice], run: Run
    ) -> tuple[Choice, nn.Module]:
        """Cut what is chosen; choose again without what turns out not to be followed, until all is."""
        whole, shape = self._whole.module, self._shape
        while True:
            choice = choose_of(candidates)
            narrow = cut_out(whole, choice.cuts, choice.blocks)
            why = why_lost(whole, narrow, shape, choice.cuts, choice.blocks)
            if not why:
                return choice, narrow
            lost = not_followed(whole, shape, choice.cuts, choice.blocks)
            if not lost:
                raise ModelError(
                    f"prune: channels cannot be followed together: {why}", "protect layers, or leave out [prune]"
                )
            layers = {cut.group.root: cut.group.members for cut in choice.cuts}
            for name, reason in lost.items():
                touched = ", ".join(dict.fromkeys(member.layer for member in layers.get(name, ()))) or name
                run.say(f"prune: the channels of {touched} stay whole: {reason}")
                self.stay_whole[name] = reason
                self._whole_layers |= {member.layer: reason for member in layers.get(name, ()) if member.side == "out"}
            candidates = candidates.without(lost)

    def _candidates(self, split: Split, place: Place) -> Candidates:
        """Return groups and blocks with what is lost without them: importances, or the network's own answers."""
        scores = [score.numpy() for score in self._importances(split)]
        orders = [np.argsort(score, kind="stable") for score in scores]
        if self._config.ranking != "sensitivity":
            damages = [np.concatenate([[0.0], np.cumsum(np.sort(score))]) for score in scores]
            return Candidates(self._groups, orders, damages, (), self._originals)
        work = sum(macs.per_layer(self._whole.module, self._shape).values())
        count = Sensitivity.images_for(work, len(self._groups), len(self._blocks), self._config.images)
        images = [batch for batch, _ in looking.batches(split, count, self._whole.plan.normalisation)]
        half = place.device == "cpu" and place.precision == "bf16-mixed"
        measured = Sensitivity(copy.deepcopy(self._whole.module), images, half)
        damages = [
            measured.of_group(group, order, self._admissible, original)
            for group, order, original in zip(self._groups, orders, self._originals, strict=True)
        ]
        found = [
            Block(path, blocks.layers_in(path, self._whole.module), measured.of_block(path)) for path in self._blocks
        ]
        return Candidates(self._groups, orders, damages, found, self._originals)

    def _importances(self, split: Split) -> list[Tensor]:
        module, config, groups = self._whole.module.eval(), self._config, self._groups
        frozen = frozenset(
            name.rpartition(".")[0] for name, value in module.named_parameters() if not value.requires_grad
        )
        images = looking.batches(split, config.images, self._whole.plan.normalisation)
        match config.importance:
            case "taylor":
                return importance.of_gradients(groups, module, images)
            case "activation":
                return importance.of_outputs(groups, module, images)
            case "batchnorm":
                return [importance.of_batchnorm(group, module) for group in groups]
            case "random":
                return [importance.at_random(group, config.seed) for group in groups]
            case kind:
                return [importance.of_weights(group, module, kind, frozen) for group in groups]


def _limits(module: nn.Module, shape: tuple[int, int], config: Prune, times: Table | None) -> list[Limit]:
    """Return what the module costs, in multiply-accumulates, parameters, and time where it is asked for."""
    work, weights, vectors = (
        macs.per_layer(module, shape), macs.weights_per_layer(module), macs.vectors_per_layer(module)
    )  # fmt: skip
    keep = config.budgets
    numbers = {layer: Proportional(weights.get(layer, 0), vectors.get(layer, 0)) for layer in {**weights, **vectors}}
    limits = [
        Limit("keep_macs", {layer: Proportional(count) for layer, count in work.items()}, keep.get("keep_macs", 1.0)),
        Limit("keep_params", numbers, keep.get("keep_params", 1.0)),
    ]
    if times is not None:
        limits.append(Limit("keep_latency", shapes.prices(module, shape, times), keep.get("keep_latency", 1.0)))
    return limits


def _check(before: list[Limit], after: list[Limit]) -> None:
    """Raise ModelError where the network that was written misses a budget after all."""
    for was, now in zip(before, after, strict=True):
        if now.whole > was.keep * was.whole * (1 + 1e-9):
            raise ModelError(
                f"prune: {now.whole / was.whole:.4f} of the whole is left, prune.{was.key} = {was.keep}",
                "this is a bug of edgekd; please report the model",
            )


def _last(module: nn.Module, shape: tuple[int, int]) -> str:
    """Return the layer that gives the logits. Raises ModelError for a network without layers that can be cut."""
    layers = list(macs.per_layer(module, shape))
    if not layers:
        raise ModelError("prune: the network runs no convolution and no linear layer", "leave out [prune]")
    return layers[-1]


def _block_of(config: Prune) -> int:
    if config.block == "target":
        raise TypeError("the pipeline puts the target's own number in place of the word")
    return config.block


def _outputs(layer: nn.Module) -> int:
    """Return how many channels a convolution or linear layer makes."""
    return int(layer.out_channels if isinstance(layer, nn.Conv2d) else getattr(layer, "out_features", 0))


def _plan(whole: Network, choice: Choice, cut: nn.Module) -> network.Plan:
    """Return how to build what is left."""
    plan = whole.plan
    gone = tuple(f"{path}." for path in choice.blocks)
    widths = {path: width for path, width in plan.widths.items() if not path.startswith(gone)} if gone else plan.widths
    groups = {path: width for path, width in plan.groups.items() if not gone or not path.startswith(gone)}
    groups |= {each.group.root: each.group.width - len(each.channels) for each in choice.cuts}
    changed = _widths(whole.module, cut)
    return plan.model_copy(
        update={"removed": (*plan.removed, *choice.blocks), "widths": {**widths, **changed}, "groups": groups}
    )


def _widths(before: nn.Module, after: nn.Module) -> dict[str, Width]:
    """Return the channels of every layer that changed."""
    old = dict(before.named_modules())
    widths = {}
    for path, layer in after.named_modules():
        width = _width(layer)
        if width is not None and width != _width(old[path]):
            widths[path] = width
    return widths


def _width(layer: nn.Module) -> Width | None:
    if isinstance(layer, nn.Conv2d):
        return Width(inputs=layer.in_channels, outputs=layer.out_channels, groups=layer.groups)
    if isinstance(layer, nn.Linear):
        return Width(inputs=layer.in_features, outputs=layer.out_features)
    if isinstance(layer, nn.BatchNorm2d):
        return Width(inputs=layer.num_features, outputs=layer.num_features)
    return None
