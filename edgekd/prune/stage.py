"""The stage `prune`: cut whole channels to budgets and estimate BatchNorm anew. Recovery is distillation's loop."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekd.errors import ModelError
from edgekd.models import network
from edgekd.models.network import Network, Width
from edgekd.models.pixels import normalise
from edgekd.prune import importance, macs
from edgekd.prune.groups import Dependencies, Group
from edgekd.prune.search import Cut, Limit, Shape, choose
from edgekd.recipe import Prune
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.store import Metrics, stage
from edgekd.train.device import Place
from edgekd.workload import arrays
from edgekd.workload.dataset import Split

_BATCHNORM_IMAGES = 2048
_BATCH = 256


@stage(writes="network", version=2, tools=("torch", "torch-pruning", "safetensors"))
def prune(out: Path, run: Run, start: Path, code: Ref, train: Path, config: Prune, place: Place) -> Metrics:
    """Write the narrower network. Raises ModelError when a budget cannot be reached or nothing can be followed."""
    # The order of float sums depends on it, and so do the new statistics.
    torch.set_num_threads(place.threads)
    whole = network.load(start, code)
    split = arrays.load(train)
    images = torch.from_numpy(arrays.sample(split, _BATCHNORM_IMAGES).images).permute(0, 3, 1, 2)
    shape = (int(images.shape[2]), int(images.shape[3]))
    before = _limits(whole.module, shape, config)
    cuts, cut = _cut(whole, before, shape, split, config)
    widths = {**whole.plan.widths, **_widths(whole.module, cut)}
    narrow = network.build(whole.plan.model_copy(update={"widths": widths}), code)
    network.fill(narrow.module, cut.state_dict(), "pruned")
    _estimate_batchnorm(narrow, images)
    network.save(narrow, out)
    after = _limits(narrow.module, shape, config)
    _check(before, after)
    return {
        "macs": after[0].whole,
        "macs_before": before[0].whole,
        "parameters": after[1].whole,
        "parameters_before": before[1].whole,
        "groups": {each.group.root: [each.group.width, each.group.width - len(each.channels)] for each in cuts},
    }


def _limits(module: nn.Module, shape: tuple[int, int], config: Prune) -> list[Limit]:
    """Return what the module costs, in multiply-accumulates and in parameters, and what part may stay (1: all)."""
    weights, vectors = macs.weights_per_layer(module), macs.vectors_per_layer(module)
    return [
        Limit("keep_macs", macs.per_layer(module, shape), config.budgets.get("keep_macs", 1.0)),
        Limit("keep_params", weights, config.budgets.get("keep_params", 1.0), vectors),
    ]


def _check(before: list[Limit], after: list[Limit]) -> None:
    """Raise ModelError where the network that was written misses a budget after all."""
    for was, now in zip(before, after, strict=True):
        if now.whole > was.keep * was.whole:
            raise ModelError(
                f"prune: {now.whole / was.whole:.4f} of the whole is left, prune.{was.key} = {was.keep}",
                "this is a bug of edgekd; please report the model",
            )


def _cut(
    whole: Network, limits: list[Limit], shape: tuple[int, int], split: Split, config: Prune
) -> tuple[list[Cut], nn.Module]:
    """Return what is cut, and a copy of the module without it."""
    narrow = copy.deepcopy(whole.module)
    dependencies = Dependencies(narrow, shape)
    groups = dependencies.groups(last=list(limits[0].costs)[-1], protected=config.protect)
    scores = [score.numpy() for score in _importances(groups, whole, split, config)]
    cuts = choose(groups, scores, limits, Shape(config.block, config.floor), config.ranking)
    for cut in cuts:
        dependencies.cut(cut.group, cut.channels)
    return cuts, narrow


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
    for part, own in zip(torch.split(images, _BATCH), torch.split(labels, _BATCH), strict=True):
        yield normalise(part.permute(0, 3, 1, 2), whole.plan.normalisation), own


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


@torch.no_grad()
def _estimate_batchnorm(narrow: Network, images: torch.Tensor) -> None:
    """Average the statistics over training images: those of the uncut net are wrong for the cut one."""
    # All but the norms: dropout and the like draw at random.
    narrow.module.eval()
    norms = [layer for layer in narrow.module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        # None: the plain average over all batches instead of a moving one.
        layer.momentum = None
        layer.train()
    # Equal parts: each weighs the same in the plain average, and none is a single image.
    for part in torch.tensor_split(images, -(-len(images) // _BATCH)):
        narrow.module(normalise(part, narrow.plan.normalisation))
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    narrow.module.eval()
