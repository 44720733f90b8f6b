"""Importance against naive loops."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.errors import ModelError
from edgekd.models.channels import Group, Member
from edgekd.prune import importance


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
    found = importance.of_weights(group(), module, norm, frozenset())
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(naive(module, norm, ["0", "2", "3"]), rel=1e-12)


def test_frozen_layers_do_not_count() -> None:
    module = net()
    found = importance.of_weights(group(), module, "l2", frozenset({"0"}))
    assert found.tolist() == pytest.approx(naive(module, "l2", ["2", "3"]), rel=1e-12)


def test_scaling_one_layer_changes_nothing() -> None:
    module = net()
    before = importance.of_weights(group(), module, "l2", frozenset())
    module.get_submodule("3").weight.data.mul_(1000)
    assert torch.allclose(importance.of_weights(group(), module, "l2", frozenset()), before, rtol=1e-6)


def test_zero_weights_give_zero_and_no_nan() -> None:
    module = net()
    for parameter in module.parameters():
        parameter.data.zero_()
    assert importance.of_weights(group(), module, "l2", frozenset()).tolist() == [0.0] * 4


def test_a_dead_channel_matters_least() -> None:
    module = net()
    module.get_submodule("0").weight.data[2] = 0
    module.get_submodule("2").weight.data[2] = 0
    assert importance.of_weights(group(), module, "l1", frozenset()).argmin().item() == 2


def rows(seed: int = 0) -> torch.Tensor:
    return torch.randn(5, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_fpgm_is_the_sum_of_distances_to_all_others() -> None:
    values = rows().numpy()
    wanted = [sum(float(np.linalg.norm(one - other)) for other in values) for one in values]
    assert importance.fpgm(rows()).tolist() == pytest.approx(wanted, rel=1e-12)


def test_fpgm_finds_the_channel_that_others_could_stand_in_for() -> None:
    values = rows() * 10
    values[3] = values[[0, 1, 2, 4]].mean(0)
    assert importance.fpgm(values).argmin().item() == 3


def test_lamp_is_the_papers_fraction() -> None:
    squares = (rows().numpy() ** 2).sum(1)
    wanted = [square / sum(other for other in squares if other >= square) for square in squares]
    found = importance.lamp(rows())
    assert found.tolist() == pytest.approx(wanted, rel=1e-12)
    assert found.max().item() == 1.0


def test_lamp_does_not_see_the_scale_of_a_layer() -> None:
    assert torch.allclose(importance.lamp(1000 * rows()), importance.lamp(rows()), rtol=1e-12)


def test_activation_is_the_mean_of_magnitudes() -> None:
    outputs = torch.randn(3, 4, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = [float(np.abs(outputs.numpy()[:, channel]).mean()) for channel in range(4)]
    assert importance.activation(outputs).tolist() == pytest.approx(wanted, rel=1e-12)


def test_batchnorm_is_the_mean_magnitude_of_its_scales() -> None:
    module = net()
    module[1].weight.data = torch.tensor([0.5, -2.0, 0.0, 1.0])
    assert importance.of_batchnorm(group(), module).tolist() == [0.5, 2.0, 0.0, 1.0]


def test_batchnorm_of_a_group_without_one_is_refused_by_name() -> None:
    without = Group("2", 4, group().members[2:])
    with pytest.raises(ModelError, match="the channels of 2 go through no BatchNorm"):
        importance.of_batchnorm(without, net())


class Small(nn.Module):
    """A convolution whose channels a linear layer reads, each as one pixel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.head = nn.Linear(4, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).flatten(1))


SMALL = Group("conv", 4, (Member("conv", "out", (0, 1, 2, 3), 4), Member("head", "in", (0, 1, 2, 3), 4)))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(6, 3, 3, 3, generator=generator), torch.tensor([0, 1, 1, 0, 1, 0])) for _ in range(3)]


def test_taylor_is_the_squared_first_order_change_of_the_loss() -> None:
    """For either layer Σ g·w of a channel is the derivative of the loss in a gate on that channel: by differences."""
    module = Small().double()
    data = [(inputs.double(), labels) for inputs, labels in batches()]

    def loss(gate: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> float:
        with torch.no_grad():
            out = module.conv(inputs).flatten(1) * gate
            return float(nn.functional.cross_entropy(module.head(out), labels))

    wanted = np.zeros(4)
    for inputs, labels in data:
        for channel in range(4):
            step = torch.zeros(4, dtype=torch.float64)
            step[channel] = 1e-6
            change = loss(1 + step, inputs, labels) - loss(1 - step, inputs, labels)
            wanted[channel] += (change / 2e-6) ** 2
    (found,) = importance.of_gradients([SMALL], module, data)
    assert found.tolist() == pytest.approx(wanted.tolist(), rel=1e-5)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_outputs_are_those_of_the_layer_that_makes_the_channels() -> None:
    module = Small()
    (found,) = importance.of_outputs([SMALL], module, batches())
    with torch.no_grad():
        wanted = sum(module.conv(inputs).abs().mean((0, 2, 3)).double() for inputs, _ in batches())
    assert torch.allclose(found, wanted / wanted.mean(), rtol=1e-6)
    assert not module.conv._forward_hooks


def test_random_hangs_on_seed_and_group_alone() -> None:
    assert torch.equal(importance.at_random(SMALL, 1), importance.at_random(SMALL, 1))
    assert not torch.equal(importance.at_random(SMALL, 1), importance.at_random(SMALL, 2))
    assert not torch.equal(importance.at_random(SMALL, 1), importance.at_random(group(), 1))
