"""Multiply-accumulates against formulas by hand."""

import torch
from torch import nn

from edgekd.models.cifar_resnet import resnet20
from edgekd.prune import macs


def test_convolution_groups_stride_and_linear_by_hand() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.Conv2d(8, 8, 5, padding=2, groups=8),
        nn.Conv2d(8, 6, (1, 3), groups=2),
        nn.Flatten(),
        nn.Linear(6 * 6 * 3, 10),
    )
    assert macs.per_layer(module, (12, 10)) == {
        "0": 8 * 6 * 5 * 3 * 9,
        "1": 8 * 6 * 5 * 25,
        "2": 6 * 6 * 3 * (8 // 2) * 3,
        "4": 10 * 108,
    }


def test_resnet20_counts_40_8_million() -> None:
    """2.36 M a convolution but for the halving ones, the first and the last layer, and the shortcuts."""
    shortcuts = 32 * 16 * 16 * 16 + 64 * 32 * 8 * 8
    whole = 32 * 32 * 16 * 16 * 9
    wanted = 32 * 32 * 16 * 27 + 6 * whole + 2 * (whole // 2 + 5 * whole) + 640
    assert sum(macs.per_layer(resnet20(), (32, 32)).values()) == wanted + shortcuts
    assert wanted + shortcuts == 40_813_184


def test_a_layer_that_is_called_twice_counts_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(self.conv(x))

    assert macs.per_layer(Twice(), (4, 4)) == {"conv": 2 * 9 * 16}


def test_training_mode_and_statistics_are_left_alone() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    macs.per_layer(module, (4, 4))
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not module[0]._forward_hooks
