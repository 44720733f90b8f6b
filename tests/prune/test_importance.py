"""Importance against naive loops."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.prune import importance
from edgekd.prune.groups import Group, Member


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4), nn.Linear(4 * 6, 5))


def group() -> Group:
    channels = tuple(range(4))
    members = (
        Member("0", "out", channels, 4),
        Member("1", "out", channels, 4),
        Member("2", "out", channels, 4),
        Member("3", "in", tuple(range(24)), 24),
    )
    return Group("0", 4, members)


def length(values: list[float], norm: str) -> float:
    if norm == "l1":
        return math.fsum(abs(value) for value in values)
    return math.sqrt(math.fsum(value * value for value in values))


def naive(module: nn.Module, norm: str, layers: list[str]) -> list[float]:
    weights = {name: module.get_submodule(name).weight.detach().double().numpy() for name in ("0", "2", "3")}
    chosen = {
        "0": [weights["0"][channel].ravel() for channel in range(4)],
        "2": [weights["2"][channel].ravel() for channel in range(4)],
        "3": [weights["3"][:, 6 * channel : 6 * channel + 6].ravel() for channel in range(4)],
    }
    total = np.zeros(4)
    for layer in layers:
        norms = np.array([length(list(values), norm) for values in chosen[layer]])
        total += norms / norms.mean()
    return total.tolist()


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_importance_is_the_sum_of_scaled_norms(norm: str) -> None:
    module = net()
    found = importance.of_group(group(), module, norm, frozenset())
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(naive(module, norm, ["0", "2", "3"]), rel=1e-12)


def test_frozen_layers_do_not_count() -> None:
    module = net()
    found = importance.of_group(group(), module, "l2", frozenset({"0"}))
    assert found.tolist() == pytest.approx(naive(module, "l2", ["2", "3"]), rel=1e-12)


def test_scaling_one_layer_changes_nothing() -> None:
    module = net()
    before = importance.of_group(group(), module, "l2", frozenset())
    module.get_submodule("3").weight.data.mul_(1000)
    assert torch.allclose(importance.of_group(group(), module, "l2", frozenset()), before, rtol=1e-6)


def test_zero_weights_give_zero_and_no_nan() -> None:
    module = net()
    for parameter in module.parameters():
        parameter.data.zero_()
    assert importance.of_group(group(), module, "l2", frozenset()).tolist() == [0.0] * 4


def test_a_dead_channel_matters_least() -> None:
    module = net()
    module.get_submodule("0").weight.data[2] = 0
    module.get_submodule("2").weight.data[2] = 0
    assert importance.of_group(group(), module, "l1", frozenset()).argmin().item() == 2
