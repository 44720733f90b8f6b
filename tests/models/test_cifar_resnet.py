"""The CIFAR ResNets: shapes, counts, and the shortcut that is a convolution only in form."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgekd.models import network
from edgekd.models.cifar_resnet import OptionA, resnet20, resnet32, resnet44, resnet56
from edgekd.models.stage import count_parameters

# Trained scalars of He et al.'s nets without parameters in the shortcuts, as akamaster's table counts them.
PARAMETERS = {resnet20: 269_722, resnet32: 464_154, resnet44: 658_586, resnet56: 853_018}
SHORTCUTS = ("layer2.0.shortcut.weight", "layer3.0.shortcut.weight")


def slice_and_pad(x: torch.Tensor, channels: int) -> torch.Tensor:
    return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, channels // 4, channels // 4))


@pytest.mark.parametrize(("inputs", "outputs"), [(16, 32), (32, 64)])
@pytest.mark.parametrize("size", [8, 9])
def test_option_a_is_slice_and_pad(inputs: int, outputs: int, size: int) -> None:
    x = torch.randn(3, inputs, size, size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(OptionA(inputs, outputs, 2)(x), slice_and_pad(x, outputs))


def test_option_a_is_frozen() -> None:
    assert [parameter.requires_grad for parameter in OptionA(4, 8, 2).parameters()] == [False]


@pytest.mark.parametrize("build", PARAMETERS, ids=lambda build: build.__name__)
def test_trained_parameters_are_those_of_the_paper(build: type[nn.Module]) -> None:
    assert count_parameters(build()) == PARAMETERS[build]


def test_published_weights_without_shortcut_keys_load_and_the_keys_are_filled() -> None:
    torch.manual_seed(1)
    source = resnet20().state_dict()
    published = {name: value for name, value in source.items() if name not in SHORTCUTS}
    assert len(source) - len(published) == 2
    torch.manual_seed(2)
    module = resnet20()
    network.fill(module, published, "published.th")
    loaded = module.state_dict()
    assert loaded.keys() == source.keys()
    assert all(torch.equal(loaded[name], value) for name, value in source.items())


def test_resnet20_gives_one_logit_per_class_at_any_size() -> None:
    module = resnet20(num_classes=7).eval()
    with torch.inference_mode():
        assert [list(module(torch.zeros(2, 3, size, size)).shape) for size in (32, 48)] == [[2, 7], [2, 7]]
