"""Is bf16 faster than float for this network on this machine? Measured, since instructions alone do not say so."""

from __future__ import annotations

import copy
import time

import torch
import torch.nn.functional as F
from torch import nn

from edgekd.train.device import Place, open_fabric

_IMAGES = 32
_ROUNDS = 6
_FLOAT_MUST_WIN_BY = 1.5
"""Where bf16 is emulated it is several times slower; a near tie goes to bf16: noise must not choose."""


def faster(module: nn.Module, size: tuple[int, int], place: Place) -> str:
    """Return `bf16-mixed` or `32-true`: the best of some training steps by turns, on images [32, 3, *size]."""
    seconds: dict[str, list[float]] = {"bf16-mixed": [], "32-true": []}
    steps = {precision: _Step(module, size, place, precision) for precision in seconds}
    for _ in range(_ROUNDS):
        for precision, step in steps.items():
            seconds[precision].append(step())
    bf16, single = (min(times) for times in seconds.values())
    return "32-true" if bf16 > _FLOAT_MUST_WIN_BY * single else "bf16-mixed"


class _Step:
    """One training step in one precision, timed."""

    def __init__(self, module: nn.Module, size: tuple[int, int], place: Place, precision: str) -> None:
        self._fabric = open_fabric(place.model_copy(update={"precision": precision}))
        own = copy.deepcopy(module).train().to(memory_format=torch.channels_last)
        self._model = self._fabric.setup(own)
        self._images = torch.zeros(_IMAGES, 3, *size).to(memory_format=torch.channels_last)
        self._labels = torch.zeros(_IMAGES, dtype=torch.int64)

    def __call__(self) -> float:
        start = time.perf_counter()
        self._fabric.backward(F.cross_entropy(self._model(self._images).float(), self._labels))
        return time.perf_counter() - start
