"""Sparsity by groups, against the paper's formula channel by channel."""

from pathlib import Path

import pytest
import torch
from torch import nn

from edgekd.distill.sparsity import Sparsity
from edgekd.errors import ModelError
from edgekd.models import channels
from edgekd.models.channels import Group, Member


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, groups=4), nn.Linear(8, 5)).double()


CHANNELS = tuple(range(4))
GROUP = Group(
    "0",
    4,
    (
        Member("0", "out", CHANNELS, 4),
        Member("1", "out", CHANNELS, 4),
        Member("2", "out", CHANNELS, 4),
        Member("3", "in", tuple(range(8)), 8),
    ),
)


def squares(module: nn.Module) -> list[float]:
    first, deep, last = (module.get_parameter(f"{name}.weight").detach() for name in ("0", "2", "3"))
    return [
        float((first[k] ** 2).sum() + (deep[k] ** 2).sum() + (last[:, 2 * k : 2 * k + 2] ** 2).sum()) for k in range(4)
    ]


def strengths(module: nn.Module) -> list[float]:
    found = squares(module)
    return [2 ** (4 * (max(found) - each) / (max(found) - min(found))) for each in found]


def test_the_penalty_is_the_papers_sum() -> None:
    module = net()
    wanted = sum(strength * square / 2 for strength, square in zip(strengths(module), squares(module), strict=True))
    assert Sparsity(module, [GROUP], 0.01)().item() == pytest.approx(0.01 * wanted, rel=1e-12)


def test_its_gradient_is_strength_times_weight() -> None:
    module = net()
    Sparsity(module, [GROUP], 0.5)().backward()
    first = module.get_parameter("0.weight")
    for channel, strength in enumerate(strengths(module)):
        assert first.grad is not None
        assert torch.allclose(first.grad[channel], 0.5 * strength * first.detach()[channel], rtol=1e-10)
    assert module.get_parameter("1.weight").grad is None


def test_the_weakest_channel_shrinks_fastest() -> None:
    module = net()
    before = torch.tensor(squares(module))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    for _ in range(20):
        optimizer.zero_grad()
        Sparsity(module, [GROUP], 1.0)().backward()
        optimizer.step()
    left = torch.tensor(squares(module)) / before
    assert left.argmin() == before.argmin()
    assert left.argmax() == before.argmax()


def test_frozen_weights_are_left_alone() -> None:
    module = net()
    for parameter in module.get_submodule("3").parameters():
        parameter.requires_grad_(False)
    whole = Sparsity(net(), [GROUP], 1.0)()
    assert Sparsity(module, [GROUP], 1.0)() < whole


def test_groups_come_back_from_their_file(tmp_path: Path) -> None:
    channels.write([GROUP], tmp_path / "groups.json")
    assert channels.read(tmp_path / "groups.json") == (GROUP,)


def test_sparsity_of_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match=r"distill\.sparsity: \[prune\] can cut no channels"):
        Sparsity(net(), [], 1.0)
