"""The stage `initialise`: a network as the recipe names it, with given or seeded weights, checked against the data."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekd.errors import ModelError
from edgekd.models import network
from edgekd.models.network import Network, Plan
from edgekd.recipe import Model
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.stage import Metrics, stage
from edgekd.workload.normalisation import Normalisation


@stage(writes="network", version=1, tools=("torch", "safetensors"))
def initialise(
    out: Path, run: Run, code: Ref, weights: Path | None, config: Model, classes: int, shape: tuple[int, int], seed: int
) -> Metrics:
    """Write the network before any training. Raises ModelError where weights or class count do not fit."""
    torch.manual_seed(seed)
    default = Normalisation()
    normalisation = Normalisation(mean=config.mean or default.mean, std=config.std or default.std)
    made = network.build(Plan(model=config.model, args=config.args, normalisation=normalisation), code)
    if weights is not None:
        network.fill(made.module, network.read_weights(weights), weights.name)
    _check_outputs(made, classes, shape)
    network.save(made, out)
    return {"parameters": count_parameters(made.module)}


def count_parameters(module: nn.Module) -> int:
    """Return the number of trained scalars."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def _check_outputs(made: Network, classes: int, shape: tuple[int, int]) -> None:
    """Run one image. Raises ModelError unless it gives [1, classes]."""
    name = made.plan.model
    # A copy: a run in training mode moves BatchNorm's statistics.
    module = copy.deepcopy(made.module)
    try:
        with torch.no_grad():
            trained = module.train()(torch.zeros(2, 3, *shape))
            logits = module.eval()(torch.zeros(1, 3, *shape))
    except Exception as error:
        # The user's own code: it may raise anything.
        raise ModelError(
            f'"{name}" does not run on {shape[0]}×{shape[1]} RGB images: {error}', "check data.size and args"
        ) from None
    if not isinstance(trained, Tensor):
        raise ModelError(
            f'"{name}" gives a {type(trained).__name__} in training mode', "switch its auxiliary heads off in args"
        )
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(f'"{name}" gives {found}', f"a classifier gives logits [N, {classes}]")
    if logits.shape[1] != classes:
        raise ModelError(
            f'"{name}" has {logits.shape[1]} classes, the data has {classes}',
            "set the model's class count in args, or check data.labels and the class folders",
        )
