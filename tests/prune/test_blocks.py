"""Blocks that can be taken out whole."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from edgekd.models.cifar_resnet import CifarResNet
from edgekd.prune.blocks import layers_in, removable


def test_residual_blocks_without_a_projection_can_go() -> None:
    assert removable(CifarResNet(3, 4, widths=(4, 8, 16)), (8, 8), ()) == [
        "layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2",
    ]  # fmt: skip


def test_inverted_residuals_and_bottlenecks_are_found_in_torchvision() -> None:
    mobile = removable(torchvision.models.mobilenet_v2(), (64, 64), ())
    # t, c, n, s of the paper's table 2: n - 1 blocks of each row have a shortcut.
    assert len(mobile) == sum(repeats - 1 for repeats in (1, 2, 3, 4, 3, 3, 1))
    resnet = removable(torchvision.models.resnet50(), (64, 64), ())
    assert len(resnet) == sum(blocks - 1 for blocks in (3, 4, 6, 3))


class Plain(nn.Module):
    """Keeps its shape, but is no residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Twice(nn.Module):
    """A residual block that is called twice: taking it out would take two out."""

    def __init__(self) -> None:
        super().__init__()
        self.block = CifarResNet(1, 2, widths=(3, 4, 4)).layer1[0]
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.block(x)).mean((2, 3)))


@pytest.mark.parametrize("module", [Plain(), Twice()], ids=["plain", "twice"])
def test_what_is_no_block_of_its_own_stays(module: nn.Module) -> None:
    assert removable(module, (8, 8), ()) == []


def test_a_block_that_holds_a_kept_layer_stays() -> None:
    module = CifarResNet(2, 4, widths=(4, 8, 16))
    found = removable(module, (8, 8), ("layer1.1.conv2", "layer2.1", "linear"))
    assert found == ["layer1.0", "layer3.1"]


def test_a_network_without_its_block_runs_and_holds_none_of_its_weights() -> None:
    module = CifarResNet(2, 4, widths=(4, 8, 16)).eval()
    assert "layer3.1.conv1" in layers_in("layer3.1", module)
    module.set_submodule("layer3.1", nn.Identity())
    assert module(torch.zeros(1, 3, 8, 8)).shape == (1, 4)
    assert not any(name.startswith("layer3.1.") for name in module.state_dict())


def test_looking_for_blocks_changes_nothing() -> None:
    module = CifarResNet(2, 4, widths=(4, 8, 16))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    removable(module, (8, 8), ())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not any(layer._forward_hooks for layer in module.modules())


class Looking(nn.Module):
    """Its forward looks at the block, and gives it more than an image."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([CifarResNet(1, 2, widths=(3, 4, 4)).layer1[0] for _ in range(2)])
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            if block.conv1.stride == (1, 1):
                x = block(x)
        return self.head(x.mean((2, 3)))


def test_a_block_that_the_forward_looks_at_stays() -> None:
    module = Looking()
    assert removable(module, (8, 8), ()) == []
    assert module.blocks[0].conv1.out_channels == 3
