"""Float ONNX files as users bring them, exported from torch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from edgekd.models import resnet20, resnet56


def cifar_resnet(depth: int, weights: Path, file: Path) -> None:
    """Export a published CIFAR ResNet as a user does: float [N, 3, 32, 32] in, dynamic batch."""
    network = {20: resnet20, 56: resnet56}[depth](num_classes=10)
    given = torch.load(weights, map_location="cpu", weights_only=True)
    state = given.get("state_dict", given)
    network.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    export(network, 32, file)


def export(network: nn.Module, side: int, file: Path) -> None:
    """Write an ONNX file, its batch dynamic."""
    example = torch.zeros(2, 3, side, side)
    shapes = ({0: torch.export.Dim("N")},)
    torch.onnx.export(
        network.eval(), (example,), file, dynamo=True, opset_version=18, dynamic_shapes=shapes, external_data=False,
        verbose=False,
    )  # fmt: skip
