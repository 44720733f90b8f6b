"""A budget of time becomes the most epochs that end within it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.distill import pace


@given(seconds=st.floats(0, 1000), epoch=st.floats(0.5, 30), view=st.floats(0, 30), views=st.integers(0, 12))
def test_one_more_epoch_would_not_fit(seconds: float, epoch: float, view: float, views: int) -> None:
    def takes(epochs: int) -> float:
        return epochs * epoch + min(epochs, views) * view

    found = pace.fit_into(seconds, epoch, view, views)
    assert takes(found) <= seconds * (1 + 1e-9) + 1e-9
    assert takes(found + 1) > seconds * (1 - 1e-9)


@pytest.mark.parametrize(
    ("seconds", "epoch", "view", "views", "epochs"),
    [(1800, 26, 16, 8, 64), (100, 10, 0, 0, 10), (9, 10, 0, 0, 0), (19, 10, 10, 8, 0), (20, 10, 10, 8, 1)],
)
def test_known_cases(seconds: float, epoch: float, view: float, views: int, epochs: int) -> None:
    assert pace.fit_into(seconds, epoch, view, views) == epochs
