"""A channel that was followed wrongly is found before anything is kept."""

import copy

import pytest
import torch
import torchvision
from torch import Tensor, nn

from edgekd.models.channels import Group
from edgekd.models.cifar_resnet import CifarResNet
from edgekd.prune import macs
from edgekd.prune.candidates import Cut
from edgekd.prune.following import cut_out, not_followed, why_lost
from edgekd.prune.groups import Dependencies

SHAPE = (16, 16)


def groups_of(module: nn.Module, shape: tuple[int, int] = SHAPE) -> list[Group]:
    return Dependencies(copy.deepcopy(module), shape).groups(list(macs.per_layer(module, shape))[-1], ())


def halves(groups: list[Group]) -> list[Cut]:
    """Every second channel of each."""
    return [Cut(group, tuple(range(0, group.width, 2))) for group in groups if group.width > 1]


class Sigmoids(nn.Module):
    """Where nothing enters, something leaves: the check must not mind."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sigmoid(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Sigmoid())
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (CifarResNet(2, 4, widths=(8, 8, 16)), SHAPE),
        (Sigmoids(), SHAPE),
        (torchvision.models.mobilenet_v3_small(), (64, 64)),
        (torchvision.models.densenet121(), (64, 64)),
        (torchvision.models.shufflenet_v2_x0_5(), (64, 64)),
        (torchvision.models.squeezenet1_1(), (64, 64)),
        (torchvision.models.regnet_y_400mf(), (64, 64)),
    ],
    ids=["resnet", "sigmoid", "squeeze-and-excite", "dense", "shuffle", "fire", "groups"],
)
def test_nets_that_people_use_are_followed(module: nn.Module, shape: tuple[int, int]) -> None:
    cuts = halves(groups_of(module, shape))
    assert len(cuts) >= 2
    narrow = cut_out(module, cuts, ())
    assert why_lost(module, narrow, shape, cuts, ()) == ""
    before, after = (sum(macs.per_layer(each, shape).values()) for each in (module, narrow))
    assert after < 0.8 * before


class OverChannels(nn.Module):
    """The mean over channels changes with their number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.other = nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.head(self.other(x * torch.sigmoid(x.mean(1, keepdim=True))).mean((2, 3)))


class HardCoded(nn.Module):
    """Its forward knows a width by heart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.other = nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.other(self.conv(x) + torch.zeros(1, 8, 1, 1))
        return self.head(x.mean((2, 3)))


class Asserting(HardCoded):
    """An error without a word."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if x.shape[1] != 8:
            raise AssertionError
        return self.head(self.other(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Asserting(), "AssertionError"),
        (OverChannels(), "mixed with others"),
        (HardCoded(), "does not run without them"),
    ],
)
def test_channels_that_cannot_be_cut_alone_are_named_with_the_reason(module: nn.Module, why: str) -> None:
    torch.manual_seed(0)
    cuts = halves(groups_of(module))
    assert why in why_lost(module, cut_out(module, cuts, ()), SHAPE, cuts, ())
    lost = not_followed(module, SHAPE, cuts, ())
    assert {root: why in reason for root, reason in lost.items()} == {"conv": True}


def test_an_output_that_would_shrink_is_named() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3))
    group = Dependencies(copy.deepcopy(module), SHAPE).groups("0", ())[0]
    cuts = [Cut(group, (0, 1))]
    why = why_lost(module, cut_out(module, cuts, ()), SHAPE, cuts, ())
    assert why == "the network's output would be [4, 12, 12] in place of [6, 12, 12]"


def test_frozen_layers_stay_frozen_and_blocks_go() -> None:
    module = CifarResNet(2, 4, widths=(8, 8, 16))
    narrow = cut_out(module, halves(groups_of(module)), ("layer1.1",))
    frozen = {name for name, parameter in narrow.named_parameters() if not parameter.requires_grad}
    assert frozen == {"layer2.0.shortcut.weight", "layer3.0.shortcut.weight"}
    assert isinstance(narrow.get_submodule("layer1.1"), nn.Identity)
