"""The stage `initialise`: a network as the recipe names it, with given or seeded weights, checked against the data."""

from __future__ import annotations

import copy
import inspect
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from edgekd.errors import ModelError
from edgekd.frames import said
from edgekd.models import network, transfer
from edgekd.models.network import Network, Plan
from edgekd.recipe import Model, Transfer
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
    given = config if isinstance(config, Transfer) else None
    frozen = given.freeze if given is not None else ()
    plan = Plan(model=config.model, args=config.args, normalisation=normalisation, frozen=frozen)
    made = network.build(plan, code)
    if weights is not None:
        tensors = network.read_weights(weights)
        if given is not None and given.head == "replace":
            tensors, replaced = transfer.with_new_head(tensors, made.module, classes)
            run.say(f"{weights.name}: the head starts anew: {', '.join(replaced)}")
        network.fill(made.module, tensors, weights.name)
    _check_outputs(made, code, classes, shape)
    found = {"parameters": count_parameters(made.module)}
    transfer.freeze(made.module, frozen)
    network.save(made, out)
    return found


def count_parameters(module: nn.Module) -> int:
    """Return the number of trained scalars."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def _check_outputs(made: Network, code: Ref, classes: int, shape: tuple[int, int]) -> None:
    """Run one image. Raises ModelError unless it gives [1, classes]."""
    name = made.plan.model
    # A copy: a run in training mode moves BatchNorm's statistics.
    module = copy.deepcopy(made.module)
    try:
        with torch.no_grad():
            trained = module.train()(torch.zeros(2, 3, *shape))
            logits = module.eval()(torch.zeros(1, 3, *shape))
    except (Exception, SystemExit) as error:
        # The user's own code: it may raise anything.
        raise ModelError(
            f'"{name}" does not run on {shape[0]}×{shape[1]} RGB images: {said(error, code.folder)}',
            _feeding(error, shape),
        ) from None
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        hint = f"its forward must return one tensor of logits [N, {classes}], and nothing beside it"
        forgot = "forgot `return`? " if logits is None else ""
        raise ModelError(f'"{name}" gives {_given(logits)}', forgot + hint)
    if not isinstance(trained, Tensor):
        raise ModelError(f'"{name}" gives {_given(trained)} in training mode', "switch its auxiliary heads off in args")
    if logits.shape[1] != classes:
        raise ModelError(
            f'"{name}" has {logits.shape[1]} classes, the data has {classes}',
            f"{_class_count(code, classes)}, or check data.labels and the class folders",
        )


def _given(value: object) -> str:
    if isinstance(value, Tensor):
        return str(list(value.shape))
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _feeding(error: BaseException, shape: tuple[int, int]) -> str:
    """Say what the network is fed; to one of other channels, how it can take that."""
    channels = re.search(r"to have (\d+) channels, but got 3 channels", str(error))
    if channels is None:
        return f"it is fed normalised RGB, float [N, 3, {shape[0]}, {shape[1]}]: check data.size and args"
    fed = f"edgekd feeds 3-channel RGB, and the model takes {channels[1]}"
    if channels[1] == "1":
        return f"{fed}: wrap it in a module whose forward gives it x.mean(1, keepdim=True)"
    return f"{fed}: give its first layer 3 input channels"


def _class_count(code: Ref, classes: int) -> str:
    """Say how the callable is told its number of classes, by the name of its own parameter where it has one."""
    try:
        names = list(inspect.signature(code.load()).parameters)
    except (TypeError, ValueError):
        names = []  # callables written in C have no signature
    name = next((name for name in names if "class" in name), "")
    return f"set args = {{ {name} = {classes} }}" if name else "set the model's class count in args"
