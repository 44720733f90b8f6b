"""The stage `sparsify`: single weights set to zero, the smallest ones, free or N of every M."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edgekd.errors import ModelError
from edgekd.models import network
from edgekd.prune.protecting import protected
from edgekd.recipe import Sparse
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.stage import Metrics, stage


@stage(writes="network", version=1, tools=("torch", "safetensors"))
def sparsify(out: Path, run: Run, start: Path, code: Ref, config: Sparse) -> Metrics:
    """Write the network with zeros among its weights, which recovery keeps. Raises ModelError."""
    found = network.load(start, code)
    weights = _weights(found.module, config.protect)
    if config.pattern:
        keep, of = config.kept_of
        weights = {path: weight for path, weight in weights.items() if weight.shape[1] % of == 0}
        if not weights:
            raise ModelError(
                f'prune.pattern = "{config.pattern}": no layer has inputs in multiples of {of}', "take keep_weights"
            )
        masks = {path: of_pattern(weight, keep, of) for path, weight in weights.items()}
    else:
        masks = of_magnitude(weights, config.keep_weights, whole=config.ranking == "global")
    with torch.no_grad():
        for path, mask in masks.items():
            weights[path].mul_(mask)
    network.save(found, out)
    every = _weights(found.module, ())
    return {
        "weights": sum(weight.numel() for weight in every.values()),
        "weights_kept": sum(int(torch.count_nonzero(weight)) for weight in every.values()),
        "layers": {path: round(float(mask.float().mean()), 6) for path, mask in masks.items()},
    }


def of_magnitude(weights: dict[str, Tensor], keep: float, whole: bool) -> dict[str, Tensor]:
    """Return masks that keep the largest weights: of all layers together, or the same part of each.

    Han et al. 2015, "Learning both Weights and Connections" (arXiv:1506.02626).
    """
    if not whole:
        return {path: _largest(weight, keep) for path, weight in weights.items()}
    together = _largest(torch.cat([weight.flatten() for weight in weights.values()]), keep)
    parts = torch.split(together, [weight.numel() for weight in weights.values()])
    return {path: part.view_as(weights[path]) for path, part in zip(weights, parts, strict=True)}


def of_pattern(weight: Tensor, keep: int, of: int) -> Tensor:
    """Return a mask that keeps the `keep` largest of every `of` weights that follow one another along the inputs.

    The weight is [outputs, inputs, …]. Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks"
    (arXiv:2104.08378), for 2 of 4.
    """
    last = weight.detach().abs().movedim(1, -1)
    runs = last.reshape(-1, of)
    order = runs.argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(runs, dtype=torch.bool).scatter_(1, order[:, :keep], True)
    return mask.reshape(last.shape).movedim(-1, 1)


def _largest(weight: Tensor, keep: float) -> Tensor:
    """Return a mask of the largest weights; of equal ones the first stay."""
    count = max(1, round(keep * weight.numel()))
    order = weight.detach().abs().flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[order[:count]] = True
    return mask.view_as(weight)


def _weights(module: nn.Module, protect: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the trained weights of all convolutions and linear layers that are not protected, by path."""
    kept = protected(module, protect)
    return {
        path: layer.weight
        for path, layer in module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.requires_grad and path not in kept
    }
