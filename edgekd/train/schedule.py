"""Learning rates as a pure function of the step."""

from __future__ import annotations

import math

from edgekd.recipe import Training

_RISE = 0.3
_START = 1 / 25
_END = 1e-4


def learning_rate(config: Training, step: int, steps: int) -> float:
    """Return the rate of step 0 <= step < steps.

    `cosine`: Loshchilov & Hutter 2016 (arXiv:1608.03983) without restarts, from lr to 0.
    `one-cycle`: Smith & Topin 2017 (arXiv:1708.07120), cosine
    from lr/25 up to lr in 30 % of the steps, then to 0.0001·lr.
    """
    position = step / max(1, steps)
    if config.schedule == "cosine":
        return config.lr * _cosine(1.0, 0.0, position)
    if position < _RISE:
        return config.lr * _cosine(_START, 1.0, position / _RISE)
    return config.lr * _cosine(1.0, _END, (position - _RISE) / (1 - _RISE))


def _cosine(start: float, end: float, position: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * position)) / 2
