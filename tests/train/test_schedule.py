"""Learning rates against formulas written anew."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.recipe import Training
from edgekd.train.schedule import learning_rate

COSINE = Training(lr=0.4, schedule="cosine")
ONE_CYCLE = Training(lr=0.4, schedule="one-cycle")


@pytest.mark.parametrize("step", range(20))
def test_cosine_is_loshchilov_and_hutter_equation_5(step: int) -> None:
    assert learning_rate(COSINE, step, 20) == pytest.approx(0.5 * 0.4 * (1 + math.cos(step / 20 * math.pi)), abs=1e-12)


@pytest.mark.parametrize("step", range(30))
def test_one_cycle_rises_for_30_percent_and_falls_to_a_ten_thousandth(step: int) -> None:
    if step < 9:
        wanted = 0.4 - (0.4 - 0.4 / 25) * math.cos(math.pi / 2 * step / 9) ** 2
    else:
        wanted = 0.4e-4 + (0.4 - 0.4e-4) * math.cos(math.pi / 2 * (step - 9) / 21) ** 2
    assert learning_rate(ONE_CYCLE, step, 30) == pytest.approx(wanted, abs=1e-12)


def test_one_cycle_is_torchs_up_to_the_shift_of_its_grid() -> None:
    """torch counts its phases to the last step, we to the end of it: in many steps the two are one curve."""
    import torch

    steps = 2000
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.4, total_steps=steps, pct_start=0.3, final_div_factor=1e4 / 25, cycle_momentum=False
    )
    worst = 0.0
    for step in range(steps):
        worst = max(worst, abs(optimizer.param_groups[0]["lr"] - learning_rate(ONE_CYCLE, step, steps)))
        optimizer.step()
        if step + 1 < steps:
            theirs.step()
    assert worst < 0.4 * 4 / steps


@given(
    st.sampled_from(["cosine", "one-cycle"]),
    st.floats(1e-6, 10.0),
    st.integers(1, 10_000),
    st.floats(0, 1, exclude_max=True),
)
def test_rate_stays_above_zero_and_at_most_lr(schedule: str, lr: float, steps: int, part: float) -> None:
    rate = learning_rate(Training(lr=lr, schedule=schedule), int(part * steps), steps)
    assert 0 < rate <= lr * (1 + 1e-12)


@given(st.integers(2, 500))
def test_cosine_never_rises_from_lr(steps: int) -> None:
    rates = [learning_rate(COSINE, step, steps) for step in range(steps)]
    assert rates[0] == 0.4
    assert rates == sorted(rates, reverse=True)
