"""The frozen teacher says what its module says in eval mode."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.distill.teacher import _folded, frozen
from edgekd.models.cifar_resnet import resnet20
from edgekd.models.network import Network, Plan
from edgekd.train.device import Place, open_fabric
from edgekd.workload.normalisation import Normalisation

NORMALISATION = Normalisation(mean=(120.0, 115.0, 110.0), std=(60.0, 61.0, 62.0))


class Branching(nn.Module):
    """Control flow on a shape: torch.fx cannot trace it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return (x if x.shape[0] > 1 else x * 2).mean((2, 3))


class ReluTwice(nn.Module):
    """What the first ReLU reads is read again: it must not be overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        z = y + 1
        w = F.relu(z)
        return (F.relu(y) + y + w + F.relu(x).mean(1, keepdim=True) + x.mean(1, keepdim=True)).mean((2, 3))


def place(precision: str = "32-true") -> Place:
    values = {"device": "cpu", "precision": precision, "strategy": "auto", "capability": "any"}
    return Place.model_validate({**values, "threads": torch.get_num_threads()})


def trained(module: nn.Module) -> nn.Module:
    """Give the norms statistics and weights that folding cannot ignore."""
    generator = torch.Generator().manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module


def pixels() -> Tensor:
    return torch.randint(0, 256, (5, 3, 16, 16), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


def reference(module: nn.Module) -> Tensor:
    mean = torch.tensor(NORMALISATION.mean, dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor(NORMALISATION.std, dtype=torch.float64).view(1, 3, 1, 1)
    with torch.no_grad():
        return copy.deepcopy(module).double().eval()((pixels().double() - mean) / std)


class ConvTwice(nn.Module):
    """One convolution in two places, a norm of its own behind each: neither can be folded into it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.one, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.conv(self.one(self.conv(self.first(x))))).mean((2, 3))


@pytest.mark.parametrize("build", [resnet20, Branching, ReluTwice, ConvTwice])
def test_frozen_gives_the_logits_of_the_module_in_eval(build: type[nn.Module]) -> None:
    torch.manual_seed(0)
    module = trained(build())
    wanted = reference(module)
    supervise = frozen(Network(module.train(), Plan(model="m:f", normalisation=NORMALISATION)), *_opened())
    for _ in range(2):
        found = supervise(pixels())
        assert found.dtype == torch.float32
        assert not found.requires_grad
        assert (found - wanted).abs().max().item() < 1e-4 * wanted.abs().max().item()


def test_bf16_is_near_and_gives_float32() -> None:
    torch.manual_seed(0)
    module = trained(resnet20())
    wanted = reference(module)
    found = frozen(
        Network(module, Plan(model="m:f", normalisation=NORMALISATION)), open_fabric(place()), place("bf16-mixed")
    )(pixels())
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max().item() < 0.1 * wanted.abs().max().item()


def test_the_pixels_are_not_overwritten() -> None:
    module = trained(ReluTwice())
    given = pixels()
    frozen(Network(module, Plan(model="m:f", normalisation=NORMALISATION)), *_opened())(given)
    assert torch.equal(given, pixels())


def _opened() -> tuple[object, Place]:
    return open_fabric(place()), place()


class Counting(nn.Module):
    """Asks how many images there are, which cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        count = len(x)
        return self.conv(x).mean((2, 3)).view(count, -1)


def test_a_teacher_that_cannot_be_traced_is_used_as_it_is() -> None:
    module = Counting().eval()
    assert _folded(module) is module
