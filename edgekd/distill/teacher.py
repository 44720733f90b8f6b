"""The teacher as a frozen function of pixels."""

from __future__ import annotations

import operator
from collections.abc import Callable

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.fx import GraphModule, Node, symbolic_trace
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

from edgekd.models.network import Network
from edgekd.models.pixels import normalise
from edgekd.train.device import Place


def frozen(teacher: Network, fabric: Fabric, place: Place, fold: bool = True) -> Callable[[Tensor], Tensor]:
    """Return pixels uint8 [B, 3, H, W] -> logits float32 [B, classes], without gradients.

    BatchNorm is folded into the convolutions (not where a loss looks at the layers between: folded, they are others),
    and under bf16 the weights are converted once instead of per batch.
    """
    dtype = torch.bfloat16 if place.precision == "bf16-mixed" else torch.float32
    module = teacher.module.eval().requires_grad_(False)
    module = (_folded(module) if fold else module).to(device=fabric.device, dtype=dtype)
    module.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def logits(pixels: Tensor) -> Tensor:
        return module(normalise(pixels, teacher.plan.normalisation).to(dtype)).float()  # type: ignore[no-any-return]

    return logits


def _folded(module: nn.Module) -> nn.Module:
    """Fold BatchNorm where the module can be traced; one with control flow is used as it is."""
    try:
        if _calls_one_twice(symbolic_trace(module)):
            return module
        folded = fuse(module)
    except (TraceError, NotImplementedError, TypeError, AttributeError, RuntimeError):
        # What torch.fx was seen to raise for len(), shapes in conditions and the like.
        return module
    if isinstance(folded, GraphModule):
        _relu_in_place(folded)
    return folded


def _calls_one_twice(traced: GraphModule) -> bool:
    """Whether a layer runs at two places: torch 2.15's fuse would fold the BatchNorms of both into it."""
    called = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    weighted = [target for target in called if any(True for _ in traced.get_submodule(str(target)).parameters())]
    return len(set(weighted)) < len(weighted)


def _relu_in_place(folded: GraphModule) -> None:
    """Let each ReLU that alone reads a fresh tensor overwrite it: a third less memory traffic in the teacher."""
    for node in folded.graph.nodes:
        if node.op == "call_function" and node.target is F.relu:
            source = node.args[0]
            if len(source.users) == 1 and _is_fresh(source, folded):
                node.kwargs = {**node.kwargs, "inplace": True}
    folded.recompile()


def _is_fresh(node: Node, folded: GraphModule) -> bool:
    """Whether a node makes a new tensor, that is none of its inputs seen otherwise."""
    if node.op == "call_module":
        return isinstance(folded.get_submodule(str(node.target)), nn.Conv2d)
    return node.op == "call_function" and node.target is operator.add
