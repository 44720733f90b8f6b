"""What `protect` means."""

import pytest
from torch import nn

from edgekd.errors import ModelError
from edgekd.models.cifar_resnet import CifarResNet
from edgekd.prune.protecting import protected


def test_a_path_protects_the_layers_at_and_below_it() -> None:
    module = CifarResNet(2, 4, widths=(4, 8, 16))
    assert protected(module, ("layer1.1", "linear")) == ["layer1.1.conv1", "layer1.1.conv2", "linear"]
    assert protected(module, ("layer1.0.conv2",)) == ["layer1.0.conv2"]
    assert protected(module, ()) == []


def test_a_path_whose_name_begins_alike_is_another() -> None:
    module = nn.ModuleDict({"a": nn.Conv2d(3, 3, 1), "ab": nn.Conv2d(3, 3, 1)})
    assert protected(module, ("a",)) == ["a"]


def test_an_unknown_path_is_named_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r'prune\.protect: no layer "liner"') as raised:
        protected(CifarResNet(1, 4, widths=(4, 8, 16)), ("liner",))
    assert raised.value.hint == "the nearest: linear, layer3, layer2, layer1"


def test_a_path_that_protects_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match=r'prune\.protect: "layer1\.0\.bn1" is a BatchNorm2d and holds nothing'):
        protected(CifarResNet(1, 4, widths=(4, 8, 16)), ("layer1.0.bn1",))
