"""What quantization does to the answers, tried on a few calibration images in memory: the ratio of signal to noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgekd import host, runtime
from edgekd.quantize.feed import Feed

IMAGES = 64
_BATCH = 32
Answers = dict[str, NDArray[np.float64]]


def answers(model: ModelProto, feed: Feed) -> Answers:
    """Return all outputs, [N, ...] each, for a feed that fits into memory."""
    session = runtime.open_model(model, runtime.without_saturation(host.this(), host.cores()))
    names = [value.name for value in session.get_outputs()]
    batches = feed.batches_for(session, _BATCH)
    parts = [runtime.answer(session, names, inputs) for _, inputs in batches]
    return {name: joined([part[at] for part in parts]).astype(np.float64) for at, name in enumerate(names)}


def joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Join one output's batches; one that has no batch axis is stacked."""
    return np.concatenate([np.atleast_1d(part) for part in parts])


def sqnr(reference: Mapping[str, NDArray[np.float64]], found: Mapping[str, NDArray[np.float64]]) -> float:
    """Return 10·log10(signal / noise) in dB over all outputs; each output counts alike whatever its scale."""
    noise = 0.0
    for name, signal in reference.items():
        power = float((signal**2).mean()) or 1.0
        noise += float(((signal - found[name]) ** 2).mean()) / power
    return float(-10 * np.log10(max(noise / len(reference), 1e-12)))
