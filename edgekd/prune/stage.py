"""The stage `prune`: cut whole channels to a budget and estimate BatchNorm anew. Recovery is distillation's loop."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from edgekd.errors import ModelError
from edgekd.models import network
from edgekd.models.network import Network, Width
from edgekd.models.pixels import normalise
from edgekd.prune import importance, macs
from edgekd.prune.groups import Dependencies
from edgekd.prune.search import Cut, choose
from edgekd.recipe import Prune
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.store import Metrics, stage
from edgekd.train.device import Place
from edgekd.workload import arrays

_BATCHNORM_IMAGES = 2048
_BATCH = 256


@stage(writes="network", version=1, tools=("torch", "torch-pruning", "safetensors"))
def prune(out: Path, run: Run, start: Path, code: Ref, train: Path, config: Prune, place: Place) -> Metrics:
    """Write the narrower network. Raises ModelError when the budget cannot be reached or nothing can be followed."""
    # The order of float sums depends on it, and so do the new statistics.
    torch.set_num_threads(place.threads)
    whole = network.load(start, code)
    images = torch.from_numpy(arrays.sample(arrays.load(train), _BATCHNORM_IMAGES).images).permute(0, 3, 1, 2)
    shape = (int(images.shape[2]), int(images.shape[3]))
    before = macs.per_layer(whole.module, shape)
    cuts, cut = _cut(whole.module, before, shape, config)
    widths = {**whole.plan.widths, **_widths(whole.module, cut)}
    narrow = network.build(whole.plan.model_copy(update={"widths": widths}), code)
    network.fill(narrow.module, cut.state_dict(), "pruned")
    _estimate_batchnorm(narrow, images)
    network.save(narrow, out)
    after = macs.per_layer(narrow.module, shape)
    if sum(after.values()) > config.keep_macs * sum(before.values()):
        raise ModelError(
            f"prune: {sum(after.values()) / sum(before.values()):.3f} of the multiply-accumulates are left, "
            f"prune.keep_macs = {config.keep_macs}",
            "this is a bug of edgekd; please report the model",
        )
    return {
        "macs": sum(after.values()),
        "macs_before": sum(before.values()),
        "parameters": sum(tensor.numel() for tensor in narrow.module.parameters() if tensor.requires_grad),
        "groups": {each.group.root: [each.group.width, each.group.width - len(each.channels)] for each in cuts},
    }


def _cut(
    module: nn.Module, counts: dict[str, int], shape: tuple[int, int], config: Prune
) -> tuple[list[Cut], nn.Module]:
    """Return what is cut, and a copy of the module without it."""
    frozen = frozenset(name.rpartition(".")[0] for name, value in module.named_parameters() if not value.requires_grad)
    narrow = copy.deepcopy(module)
    dependencies = Dependencies(narrow, shape)
    groups = dependencies.groups(last=list(counts)[-1], protected=config.protect)
    scores = [importance.of_group(group, module, config.norm, frozen).numpy() for group in groups]
    cuts = choose(groups, scores, counts, config.keep_macs, config.block)
    for cut in cuts:
        dependencies.cut(cut.group, cut.channels)
    return cuts, narrow


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
