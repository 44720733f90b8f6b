"""The stage `prune`: cut whole channels and blocks to budgets, estimate BatchNorm anew. Recovery is distill's loop."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekd.errors import ModelError
from edgekd.latency import Table
from edgekd.models import channels, network
from edgekd.models.channels import Group
from edgekd.models.network import Network, Width
from edgekd.models.pixels import normalise
from edgekd.prune import batchnorm, blocks, importance, macs, shapes
from edgekd.prune.following import cut_out, not_followed, why_lost
from edgekd.prune.groups import Dependencies
from edgekd.prune.search import Block, Candidates, Choice, Limit, Proportional, Shape, choose, narrowest
from edgekd.prune.sensitivity import Sensitivity
from edgekd.recipe import Prune
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.store import Metrics, stage
from edgekd.train.device import Place
from edgekd.workload import arrays
from edgekd.workload.dataset import Split

_BATCHNORM_IMAGES = 2048


@stage(writes="network", version=3, tools=("torch", "torch-pruning", "safetensors"))
def prune(
    out: Path, run: Run, start: Path, code: Ref, train: Path, table: Path | None, config: Prune, place: Place
) -> Metrics:
    """Write the narrower network; `table` holds its layers' latencies, where keep_latency is asked.

    Raises ModelError when a budget cannot be reached or nothing can be followed.
    """
    # The order of float sums depends on it, and so do the new statistics.
    torch.set_num_threads(place.threads)
    whole = network.load(start, code)
    split = arrays.load(train)
    images = torch.from_numpy(arrays.sample(split, _BATCHNORM_IMAGES).images).permute(0, 3, 1, 2)
    shape = (int(images.shape[2]), int(images.shape[3]))
    times = None if table is None else Table.model_validate_json(table.read_bytes())
    before = _limits(whole.module, shape, config, times)
    choice, cut, kept = _cut(whole, before, shape, split, config, place, run)
    narrow = network.build(_plan(whole, choice, cut), code)
    network.fill(narrow.module, cut.state_dict(), "pruned")
    batchnorm.estimate(narrow, images)
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
        "stay_whole": kept,
        "predicted": {key: now / was for key, (was, now) in costs.items()},
    }


@stage(name="couple", writes="groups.json", version=1, tools=("torch", "torch-pruning"))
def couple(out: Path, run: Run, start: Path, code: Ref, shape: tuple[int, int], protect: tuple[str, ...]) -> Metrics:
    """Write which channels can only be cut together: what sparsity is asked of before the cut."""
    module = network.load(start, code).module
    groups = Dependencies(module, shape).groups(_last(module, shape), protect)
    channels.write(groups, out)
    return {"groups": len(groups)}


def smallest(start: Path, code: Ref, shape: tuple[int, int], table: Table, config: Prune) -> float:
    """Return the smallest part of the latency, by the table, that can be reached by any cut at all."""
    whole = network.load(start, code)
    module = copy.deepcopy(whole.module)
    groups = Dependencies(module, shape).groups(_last(whole.module, shape), config.protect)
    limit = Limit("keep_latency", shapes.prices(whole.module, shape, table), 0.0)
    nothing = [np.zeros(group.width + 1) for group in groups]
    orders = [np.arange(group.width) for group in groups]
    found = [Block(path, blocks.layers_in(path, module), 0.0) for path in _blocks(whole.module, shape, config)]
    candidates = Candidates(groups, orders, nothing, found)
    return narrowest(candidates, limit, Shape(_block_of(config), config.floor))


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


def _cut(
    whole: Network, limits: list[Limit], shape: tuple[int, int], split: Split, config: Prune, place: Place, run: Run
) -> tuple[Choice, nn.Module, dict[str, str]]:
    """Return what is cut, a copy of the module without it, and which channels stay whole for what reason."""
    dependencies = Dependencies(copy.deepcopy(whole.module), shape)
    groups = dependencies.groups(_last(whole.module, shape), config.protect)
    scores = [score.numpy() for score in _importances(groups, whole, split, config)]
    orders = [np.argsort(score, kind="stable") for score in scores]
    admissible = Shape(_block_of(config), config.floor)
    if config.ranking == "sensitivity":
        candidates = _measured(whole, groups, orders, shape, split, config, place)
    else:
        damages = [np.concatenate([[0.0], np.cumsum(np.sort(score))]) for score in scores]
        candidates = Candidates(groups, orders, damages)
    while True:
        choice = _choose(candidates, limits, admissible, config, dependencies.kept)
        narrow = cut_out(whole.module, shape, choice.cuts, choice.blocks)
        why = why_lost(whole.module, narrow, shape, choice.cuts, choice.blocks)
        if not why:
            return choice, narrow, dependencies.kept
        lost = not_followed(whole.module, shape, choice.cuts)
        if not lost:
            raise ModelError(
                f"prune: channels are not followed together: {why}", "leave out [prune], or protect layers"
            )
        for root, (group, reason) in lost.items():
            layers = ", ".join(dict.fromkeys(member.layer for member in group.members))
            run.say(f"prune: the channels of {layers} stay whole: {reason}")
            dependencies.kept[root] = reason
        candidates = candidates.without(lost)


def _choose(
    candidates: Candidates, limits: list[Limit], admissible: Shape, config: Prune, kept: dict[str, str]
) -> Choice:
    try:
        return choose(candidates, limits, admissible, "uniform" if config.ranking == "uniform" else "greedy")
    except ModelError as error:
        asked = {root: why for root, why in kept.items() if not why.endswith("is kept")}
        rigid = "; ".join(f"{root} stays whole: {why}" for root, why in list(asked.items())[:3])
        raise ModelError(error.message, f"{error.hint}; {rigid}" if rigid else error.hint) from None


def _measured(
    whole: Network,
    groups: list[Group],
    orders: list[NDArray[np.int64]],
    shape: tuple[int, int],
    split: Split,
    config: Prune,
    place: Place,
) -> Candidates:
    """Return groups and blocks with what the network's answers lose without them."""
    paths = _blocks(whole.module, shape, config)
    work = sum(macs.per_layer(whole.module, shape).values())
    count = Sensitivity.images_for(work, len(groups), len(paths), config.images)
    batches = [images for images, _ in _batches(whole, split, config.model_copy(update={"images": count}))]
    half = place.device == "cpu" and place.precision == "bf16-mixed"
    measured = Sensitivity(copy.deepcopy(whole.module), batches, half)
    admissible = Shape(_block_of(config), config.floor)
    damages = [measured.of_group(group, order, admissible) for group, order in zip(groups, orders, strict=True)]
    blocks_ = [Block(path, blocks.layers_in(path, whole.module), measured.of_block(path)) for path in paths]
    return Candidates(groups, orders, damages, blocks_)


def _blocks(module: nn.Module, shape: tuple[int, int], config: Prune) -> list[str]:
    """Return the blocks that may go whole."""
    if not config.depth or config.ranking != "sensitivity":
        return []
    return blocks.removable(copy.deepcopy(module), shape, (*config.protect, _last(module, shape)))


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


def _importances(groups: list[Group], whole: Network, split: Split, config: Prune) -> list[Tensor]:
    module = whole.module.eval()
    frozen = frozenset(name.rpartition(".")[0] for name, value in module.named_parameters() if not value.requires_grad)
    match config.importance:
        case "taylor":
            return importance.of_gradients(groups, module, _batches(whole, split, config))
        case "activation":
            return importance.of_outputs(groups, module, _batches(whole, split, config))
        case "batchnorm":
            return [importance.of_batchnorm(group, module) for group in groups]
        case "random":
            return [importance.at_random(group, config.seed) for group in groups]
        case kind:
            return [importance.of_weights(group, module, kind, frozen) for group in groups]


def _batches(whole: Network, split: Split, config: Prune) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised images and labels, a stratified sample of train."""
    sample = arrays.sample(split, config.images)
    images, labels = torch.from_numpy(sample.images), torch.from_numpy(sample.labels)
    batch = batchnorm.batch_for((int(images.shape[1]), int(images.shape[2])))
    for part, own in zip(torch.split(images, batch), torch.split(labels, batch), strict=True):
        yield normalise(part.permute(0, 3, 1, 2), whole.plan.normalisation), own


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
