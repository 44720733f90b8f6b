"""Measured damage, against networks that are really cut."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.models.cifar_resnet import CifarResNet
from edgekd.prune.candidates import Cut, Shape
from edgekd.prune.groups import Dependencies
from edgekd.prune.sensitivity import Sensitivity
from edgekd.prune.slicing import cut_channels

SHAPE = (8, 8)


def net() -> CifarResNet:
    torch.manual_seed(0)
    module = CifarResNet(2, 5, widths=(8, 8, 16))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    return module


def batch() -> Tensor:
    return torch.randn(16, 3, *SHAPE, generator=torch.Generator().manual_seed(1))


def answers(module: nn.Module, image: Tensor) -> Tensor:
    """With the statistics of the batch, and without changing those of the module."""
    module = copy.deepcopy(module).train()
    with torch.no_grad():
        return F.log_softmax(module(image).double(), 1)


def divergence(whole: Tensor, cut: Tensor) -> float:
    return float((whole.exp() * (whole - cut)).sum(1).mean())


@pytest.mark.parametrize("root", ["layer1.0.conv1", "layer3.1.conv1", "conv1"])
def test_damage_of_a_group_is_the_divergence_of_the_network_that_is_cut(root: str) -> None:
    module = net()
    groups = Dependencies(copy.deepcopy(module), SHAPE).groups("linear", ())
    group = next(each for each in groups if root in {member.layer for member in each.members if member.side == "out"})
    order = np.random.default_rng(0).permutation(group.width)
    found = Sensitivity(copy.deepcopy(module), [batch()], half=False).of_group(group, order, Shape(4))
    cut = copy.deepcopy(module)
    cut_channels(cut, [Cut(group, tuple(sorted(order[:4].tolist())))])
    wanted = divergence(answers(module, batch()), answers(cut, batch()))
    assert found.shape == (group.width + 1,)
    assert found[0] == 0
    assert found[4] == pytest.approx(wanted, rel=1e-3)
    assert found[2] == pytest.approx(found[4] / 2)
    assert (np.diff(found) >= 0).all()


def test_damage_of_a_block_is_the_divergence_of_the_network_without_it() -> None:
    module = net()
    cut = copy.deepcopy(module)
    cut.set_submodule("layer2.1", nn.Identity())
    wanted = divergence(answers(module, batch()), answers(cut, batch()))
    assert wanted > 0.001
    assert Sensitivity(module, [batch()], half=False).of_block("layer2.1") == pytest.approx(wanted, rel=1e-3)


def test_weights_and_statistics_come_back_as_they_were() -> None:
    module = net()
    before = {name: value.clone() for name, value in module.state_dict().items() if "num_batches" not in name}
    groups = Dependencies(copy.deepcopy(module), SHAPE).groups("linear", ())
    measured = Sensitivity(module, [batch()], half=False)
    for group in groups:
        measured.of_group(group, np.arange(group.width), Shape(4))
    measured.of_block("layer1.1")
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_group_without_a_smaller_width_loses_nothing() -> None:
    module = net()
    group = Dependencies(copy.deepcopy(module), SHAPE).groups("linear", ())[0]
    found = Sensitivity(module, [batch()], half=False).of_group(group, np.arange(group.width), Shape(16))
    assert found.tolist() == [0.0] * (group.width + 1)


def test_a_large_network_is_asked_about_fewer_images() -> None:
    assert Sensitivity.images_for(macs=10**6, groups=10, blocks=4, most=512) == 512
    few = Sensitivity.images_for(macs=10**9, groups=50, blocks=10, most=512)
    assert few == 2.5e12 // (10**9 * 211)
    assert Sensitivity.images_for(macs=10**12, groups=50, blocks=10, most=512) == 8
