"""Channels that are cut together, on the shapes of nets that users have."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.models.channels import Group
from edgekd.models.cifar_resnet import CifarResNet
from edgekd.prune.candidates import Cut
from edgekd.prune.groups import Dependencies
from edgekd.prune.slicing import cut_channels

SHAPE = (8, 8)


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.point = nn.Conv2d(8, 12, 1)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.point(self.deep(F.relu(self.stem(x))))).mean((2, 3)))


class Vgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.hidden = nn.Linear(6 * 4 * 4, 10)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.hidden(F.relu(self.conv(x)).flatten(1))))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2, padding=1)
        self.point = nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.point(self.grouped(self.stem(x)))).mean((2, 3)))


def find(module: nn.Module, last: str, *protected: str) -> dict[str, Group]:
    return {group.root: group for group in Dependencies(module, SHAPE).groups(last, protected)}


def layers(group: Group) -> set[tuple[str, str]]:
    return {(member.layer, member.side) for member in group.members}


def resnet() -> nn.Module:
    return CifarResNet(1, 4, widths=(4, 8, 16))


def test_residual_additions_bind_the_layers_that_write_and_read_the_sum() -> None:
    groups = find(resnet(), "linear")
    assert sorted(group.width for group in groups.values()) == [4, 4, 8, 8, 16, 16]
    written = [layers(group) for group in groups.values()]
    inner = next(found for found in written if ("layer1.0.conv1", "out") in found)
    assert inner == {("layer1.0.conv1", "out"), ("layer1.0.bn1", "out"), ("layer1.0.conv2", "in")}
    sum1 = next(found for found in written if ("conv1", "out") in found)
    assert {("layer1.0.conv2", "out"), ("layer2.0.conv1", "in"), ("layer2.0.shortcut", "in")} <= sum1
    assert ("layer2.0.shortcut", "out") not in sum1


def test_no_group_holds_the_logits() -> None:
    for group in find(resnet(), "linear").values():
        assert ("linear", "out") not in layers(group)


def test_depthwise_channels_follow_the_layer_before() -> None:
    groups = find(Depthwise(), "head")
    bound = next(group for group in groups.values() if ("stem", "out") in layers(group))
    assert sorted(group.width for group in groups.values()) == [8, 12]
    assert {("stem", "out"), ("deep", "out"), ("point", "in")} <= layers(bound)


def test_flatten_gives_each_channel_its_pixels_in_order() -> None:
    group = find(Vgg(), "head")["conv"]
    hidden = next(member for member in group.members if member.layer == "hidden")
    assert group.width == 6
    assert hidden.side == "in"
    assert hidden.indices == tuple(range(96))


def test_what_enters_a_convolution_in_groups_goes_with_what_leaves_it_a_whole_group_at_a_time() -> None:
    groups = find(Grouped(), "head")
    assert sorted(groups) == ["grouped", "point"]
    together = groups["grouped"]
    assert (together.width, together.unit) == (2, 4)
    assert layers(together) == {("stem", "out"), ("grouped", "out"), ("point", "in")}


def test_protected_layers_stay() -> None:
    assert "conv" not in find(Vgg(), "head", "conv")
    assert "hidden" in find(Vgg(), "head", "conv")


def test_protecting_one_writer_of_a_sum_protects_the_sum() -> None:
    protected = find(resnet(), "linear", "layer1.0.conv2")
    assert all(("conv1", "out") not in layers(group) for group in protected.values())


@pytest.mark.parametrize(
    ("module", "last"),
    [(resnet(), "linear"), (Depthwise(), "head"), (Vgg(), "head"), (Grouped(), "head")],
    ids=["resnet", "deep", "vgg", "groups"],
)
def test_cutting_channels_that_do_nothing_leaves_the_logits(module: nn.Module, last: str) -> None:
    """Rows and biases of two channels of every group are set to zero: to cut them then changes nothing."""
    torch.manual_seed(0)
    module.eval()
    image = torch.randn(2, 3, *SHAPE)
    dependencies = Dependencies(module, SHAPE)
    groups = dependencies.groups(last, ())
    cuts = [Cut(group, (1, 2) if group.width > 2 else (1,)) for group in groups]
    for cut in cuts:
        silence(module, cut)
    widths = {cut.group.root: module.get_submodule(cut.group.root).weight.shape[0] for cut in cuts}
    with torch.no_grad():
        before = module(image)
        cut_channels(module, cuts)
        after = module(image)
    assert torch.allclose(before, after, atol=1e-5)
    for cut in cuts:
        left = module.get_submodule(cut.group.root).weight.shape[0]
        assert left == widths[cut.group.root] - len(cut.channels) * cut.group.unit


def silence(module: nn.Module, cut: Cut) -> None:
    for member in cut.group.members:
        layer = module.get_submodule(member.layer)
        if member.side == "out":
            for tensor in (layer.weight, layer.bias):
                if tensor is not None:
                    tensor.data[cut.group.indices(member, cut.channels)] = 0


def test_a_depthwise_convolution_that_multiplies_channels_is_followed() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3, groups=16), nn.Conv2d(32, 32, 1), nn.Conv2d(32, 8, 1), nn.Flatten()
    )
    groups = find(module, "3")
    assert {root: group.width for root, group in groups.items()} == {"0": 16, "2": 32}
    cut_channels(module, [Cut(groups["0"], (3, 5))])
    assert [module[1].in_channels, module[1].out_channels, module[1].groups] == [14, 28, 14]
    assert module(torch.zeros(1, 3, *SHAPE)).shape[0] == 1


class Unequal(Grouped):
    """Two convolutions in different numbers of groups on one path."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(8, 8, 1, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.point(self.other(self.grouped(self.stem(x))))).mean((2, 3)))


class Own(nn.Module):
    """A scale per channel that is no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.gamma = nn.Parameter(torch.ones(1, 8, 1, 1))
        self.other = nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.other(self.conv(x) * self.gamma).mean((2, 3)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.two.weight = self.one.weight
        self.point = nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.point(self.two(self.one(self.stem(x)))).mean((2, 3)))


class Shuffling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.shuffle = nn.PixelShuffle(2)
        self.other = nn.Conv2d(4, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.other(self.shuffle(self.conv(x))).mean((2, 3)))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3))
        self.other = nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.other(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("module", "roots", "kept", "why"),
    [
        (Own(), {"other"}, "conv", "a parameter outside of layers"),
        (Tied(), {"point"}, "one", "shares its weights with another layer"),
        (Shuffling(), {"other"}, "conv", "does not take them in equal parts"),
        (Normed(), {"other"}, "conv", "is parametrized"),
        (Unequal(), {"point"}, "stem", "in different numbers of groups"),
    ],
    ids=["parameter", "tied", "pixel-shuffle", "weight-norm", "groups"],
)
def test_channels_that_stay_whole_have_a_reason(module: nn.Module, roots: set[str], kept: str, why: str) -> None:
    dependencies = Dependencies(module, SHAPE)
    assert {group.root for group in dependencies.groups("head", ())} == roots
    assert any(why in reason for root, reason in dependencies.kept.items())
    assert kept in dependencies.kept or any(kept in reason for reason in dependencies.kept.values())
