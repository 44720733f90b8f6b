"""Weights that were set to zero stay so."""

import torch
from torch import nn

from edgekd.train.zeros import Zeros


def test_zeros_stay_zero_and_the_rest_is_untouched() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    torch.nn.init.zeros_(module[1].bias)
    with torch.no_grad():
        module[0].weight[1] = 0
        module[2].weight[0, 2] = 0
    zeros = Zeros(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    wanted = {name: parameter.clone() for name, parameter in module.named_parameters()}
    zeros.keep()
    wanted["0.weight"][1] = 0
    wanted["2.weight"][0, 2] = 0
    assert all(torch.equal(parameter, wanted[name]) for name, parameter in module.named_parameters())
