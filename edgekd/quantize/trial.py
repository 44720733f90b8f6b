"""What quantization does to the answers, tried on a few calibration images in memory: the ratio of signal to noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgekd import host, runtime
from edgekd.quantize.divergence import noise_shares
from edgekd.quantize.feed import Feed
from edgekd.quantize.joining import answered, batch_axes, joined

IMAGES = 64
_BATCH = 32
_MOST_BYTES = 128 * 2**20
"""What the answers of one graph may take: of dense outputs, as many images are tried as that holds."""
Answers = dict[str, NDArray[Any]]


def answers(model: ModelProto, feed: Feed) -> Answers:
    """Return all outputs, [N, ...] each, of as many samples of the feed as their answers fit into memory."""
    session = runtime.open_model(model, runtime.without_saturation(host.this(), host.cores()))
    parts = [found for _, _, found in answered(session, feed, _BATCH, _MOST_BYTES)]
    axes, names = batch_axes(session, feed), [value.name for value in session.get_outputs()]
    return {name: joined([part[at] for part in parts], axes[at]) for at, name in enumerate(names)}


def sqnr(reference: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]) -> float:
    """Return 10·log10(signal / noise) in dB; each group of channels of each output counts alike, whatever its scale."""
    shares = noise_shares(reference, found)
    return to_db(float(np.mean(shares)) if shares else 0.0)


def to_db(share: float) -> float:
    """Return noise over signal as a ratio in dB, at most 120."""
    return float(-10 * np.log10(max(share, 1e-12)))
