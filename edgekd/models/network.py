"""A network as files: weights.safetensors and plan.json, which says how to build what the weights fit into.

Loading makes a fresh model, applies the plan's widths, checks every shape, and loads. Nothing is unpickled.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from edgekd.beside import write_bytes
from edgekd.errors import EdgekdError, ModelError
from edgekd.frames import said
from edgekd.models import sniffing
from edgekd.recipe import Arguments
from edgekd.ref import Ref
from edgekd.workload.normalisation import Normalisation

WEIGHTS = "weights.safetensors"
PLAN = "plan.json"


class Width(BaseModel):
    """The channels of one layer: what enters and what leaves, and in how many groups."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: Annotated[int, Field(ge=1)]
    outputs: Annotated[int, Field(ge=1)]
    groups: Annotated[int, Field(ge=1)] = 1


class Plan(BaseModel):
    """How to build a network: callable, arguments, normalisation, the blocks that went, the widths of layers cut."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    args: Arguments = {}
    normalisation: Normalisation = Normalisation()
    removed: tuple[str, ...] = ()
    """Paths of blocks that are replaced by nn.Identity."""
    widths: dict[str, Width] = {}
    groups: dict[str, int] = {}
    """By a layer whose outputs they are: how many are left of channels that were cut together. For the reader."""
    frozen: tuple[str, ...] = ()
    """Paths of what keeps its given weights in the network's first training; after a cut everything learns."""


@dataclass(frozen=True)
class Network:
    """A module in memory with the plan that it came from. Takes normalised float NCHW, gives logits."""

    module: nn.Module
    plan: Plan


def build(plan: Plan, code: Ref) -> Network:
    """Make the plan's module, untrained. Raises ModelError where the callable does not give such a module."""
    try:
        # A copy: a callable may change the lists that it is given, and the plan is written afterwards.
        module = code.call(**copy.deepcopy(plan.args))
    except EdgekdError:
        raise
    except (Exception, SystemExit) as error:
        # The user's own code: it may raise anything.
        raise ModelError(
            f'"{plan.model}" cannot be called: {said(error, code.folder)}',
            f"check its args in the recipe{_takes(code.load())}",
        ) from None
    if module is None:
        raise ModelError(f'"{plan.model}" returned None', "forgot `return`? it must return a torch.nn.Module")
    if not isinstance(module, nn.Module):
        raise ModelError(f'"{plan.model}" gave a {type(module).__name__}', "it must return a torch.nn.Module")
    for path in plan.removed:
        remove(module, path)
    for path, width in plan.widths.items():
        _resize(module, path, width)
    return Network(module, plan)


def _takes(make: Callable[..., Any]) -> str:
    try:
        return f": it takes {inspect.signature(make)}"
    except (TypeError, ValueError):
        # Callables written in C have no signature.
        return ""


def remove(module: nn.Module, path: str) -> None:
    """Replace a block by nn.Identity. Raises ModelError where the module has none of that path."""
    _layer(module, path)
    module.set_submodule(path, nn.Identity())


def load(folder: Path, code: Ref) -> Network:
    """Load a network that `save` wrote. `code` is the plan's callable. Raises ModelError."""
    plan = Plan.model_validate_json((folder / PLAN).read_text(encoding="utf-8"))
    network = build(plan, code)
    fill(network.module, load_file(folder / WEIGHTS), str(folder.name))
    return network


def save(network: Network, folder: Path) -> None:
    """Write weights and plan: contiguous tensors in a fixed order, no metadata, so that bytes are reproducible."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, tensor in sorted(network.module.state_dict().items()):
        # Cloned: safetensors refuses two names for one memory, which a module that shares weights has.
        tensors[name] = tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
    # By way of memory: on a full disk safetensors 0.8 raises an error of its own, which names no cause.
    write_bytes(folder / WEIGHTS, safetensors.torch.save(tensors))
    # A plan without frozen layers is as it was before there were any: the keys of later stages hold its bytes.
    plan = network.plan.model_dump_json(indent=1, exclude=None if network.plan.frozen else {"frozen"})
    (folder / PLAN).write_text(plan, encoding="utf-8")


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file, or a torch file of tensors only; nothing in it is executed. Raises ModelError."""
    if not file.is_file():
        raise ModelError(f"no weights file {file}", "weights are relative to the recipe's folder")
    if (other := sniffing.foreign(file)) is not None:
        kind, hint = other
        raise ModelError(f"{file.name} is not a weights file: it is {kind}", hint)
    try:
        if sniffing.is_safetensors(file):
            with safe_open(file, framework="pt") as tensors:
                return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118
        with warnings.catch_warnings():
            # torch warns of what it then refuses, as of a newer pickle.
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch and safetensors raise a dozen kinds for a file that is not theirs.
        reason, hint = sniffing.refused(file, error)
        raise ModelError(f"{file.name} is not a weights file that can be read safely: {reason}", hint) from None
    return _state_dict(content, file)


def fill(module: nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Load weights into a module; every key and every shape must fit. Raises ModelError with the first mismatch."""
    expected = module.state_dict()
    for name, tensor in weights.items():
        if name not in expected:
            raise ModelError(
                f'{where}: "{name}" {list(tensor.shape)} is not in the model', "are these the weights of this model?"
            )
        if tensor.shape != expected[name].shape:
            raise ModelError(
                f'{where}: "{name}" is {list(tensor.shape)} in the file and {list(expected[name].shape)} in the model',
                _another_shape(tensor, expected[name]),
            )
    named = OrderedDict(weights)
    # Modules look for their version there: torchvision's MNASNet refuses weights without one.
    named._metadata = getattr(expected, "_metadata", None)  # type: ignore[attr-defined]
    missing, _ = module.load_state_dict(named, strict=False)
    lost = [name for name in missing if not name.endswith("num_batches_tracked")]
    if lost:
        raise ModelError(
            f'{where}: "{lost[0]}" {list(expected[lost[0]].shape)} is in the model but not in the file',
            "are these the weights of this model?",
        )


def _another_shape(given: Tensor, wanted: Tensor) -> str:
    if given.ndim and wanted.ndim and given.shape[1:] == wanted.shape[1:]:
        return (
            'for weights of other classes set head = "replace": the last layer starts anew; '
            "or check the model's args (class count, width)"
        )
    return "check the model's args (class count, width)"


def _state_dict(content: object, file: Path) -> dict[str, Tensor]:
    """Find the tensors in what a training script saved: a `state_dict` key, a `module.` prefix."""
    if isinstance(content, dict):
        for key in ("state_dict", "model", "model_state_dict"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{file.name} holds no state dict", "save model.state_dict(), or a dict with a state_dict key")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _layer(module: nn.Module, path: str) -> nn.Module:
    try:
        return module.get_submodule(path)
    except AttributeError:
        raise ModelError(f'plan: no layer "{path}" in the model', "the model's code changed since it was cut") from None


def _resize(module: nn.Module, path: str, width: Width) -> None:
    """Give one layer other widths; its weights are undefined until they are loaded."""
    layer = _layer(module, path)
    if isinstance(layer, nn.Conv2d):
        layer.in_channels, layer.out_channels, layer.groups = width.inputs, width.outputs, width.groups
        layer.weight = _like(layer.weight, (width.outputs, width.inputs // width.groups, *layer.kernel_size))
    elif isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = width.inputs, width.outputs
        layer.weight = _like(layer.weight, (width.outputs, width.inputs))
    elif isinstance(layer, nn.BatchNorm2d):
        layer.num_features = width.outputs
        if layer.weight is not None:
            layer.weight = _like(layer.weight, (width.outputs,))
        if layer.running_mean is not None:
            layer.running_mean, layer.running_var = torch.zeros(width.outputs), torch.ones(width.outputs)
    else:
        raise ModelError(f'plan: "{path}" is a {type(layer).__name__}', "only Conv2d, Linear and BatchNorm2d are cut")
    if layer.bias is not None:
        layer.bias = _like(layer.bias, (width.outputs,))


def _like(parameter: Tensor, shape: tuple[int, ...]) -> nn.Parameter:
    """Return an undefined parameter of another shape, frozen where this one is."""
    return nn.Parameter(torch.empty(shape), requires_grad=parameter.requires_grad)
