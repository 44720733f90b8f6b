"""The faster precision is chosen by what steps took, and a near tie goes to bf16."""

import pytest
from torch import nn

from edgekd.train import precision
from edgekd.train.device import Place

PLACE = Place(device="cpu", precision="bf16-mixed", threads=1, strategy="auto", capability="any")


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("bf16", "single", "wanted"), [(1.0, 2.0, "bf16-mixed"), (1.4, 1.0, "bf16-mixed"), (2.0, 1.0, "32-true")]
)
def test_float_is_chosen_where_it_wins_clearly(
    monkeypatch: pytest.MonkeyPatch, bf16: float, single: float, wanted: str
) -> None:
    def took(step: precision._Step) -> float:
        return bf16 if step._fabric._precision.precision == "bf16-mixed" else single

    monkeypatch.setattr(precision._Step, "__call__", took)
    assert precision.faster(net(), (8, 8), PLACE) == wanted


def test_steps_are_really_taken_and_leave_the_module_as_it_is() -> None:
    module = net()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert precision.faster(module, (8, 8), PLACE) in {"bf16-mixed", "32-true"}
    assert all(value.equal(before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
