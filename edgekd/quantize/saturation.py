"""How many sums would saturate on an x86 CPU without VNNI, counted on calibration images.

There `vpmaddubsw` adds two products of uint8 and int8 into 16 bits and clips the sum at ±32,767 or so; VNNI and ARM add
into 32 bits. onnxruntime pairs neighbouring input channels under one kernel position (depthwise kernels do not pair).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgekd.quantize.feed import Feed
from edgekd.quantize.grid import Grid, weight_integers, weight_scales
from edgekd.quantize.observing import tensor_session, values_of
from edgekd.quantize.rounding import patches
from edgekd.quantize.wiring import Wiring, groups
from edgekd.target import Int8

IMAGES = 8
_BATCH = 2
_TOP, _BOTTOM = 32767, -32768


@dataclass(frozen=True)
class Saturated:
    """Pair sums looked at and those that would have been clipped, over all layers."""

    sums: int
    clipped: int
    layers: tuple[str, ...]
    """The nodes that have any, most first."""


def count(
    model: ModelProto,
    feed: Feed,
    grids: Mapping[str, Grid],
    scales: Mapping[str, NDArray[np.float32]],
    policy: Int8,
    in_float: frozenset[str],
) -> Saturated:
    """Count on evenly spread positions of the feed's images. Nothing saturates where activations are not uint8."""
    layers = [(node, weight) for node, weight in Wiring(model).layers(grids, in_float) if groups(node) == 1]
    if policy.activations != "uint8" or policy.weights != "int8" or not layers:
        return Saturated(0, 0, ())
    names = list(dict.fromkeys(node.input[0] for node, _ in layers))
    integers = {}
    for node, weight in layers:
        scale = scales.get(node.input[1], weight_scales(weight, policy))
        integers[node.name] = _paired(weight_integers(weight, scale, policy))
    session = tensor_session(model, names)
    sums, found = 0, dict.fromkeys(integers, 0)
    for _, inputs in feed.batches_for(session, _BATCH):
        values = values_of(session, names, inputs)
        for node, weight in layers:
            grid = grids[node.input[0]]
            pixels = patches(values[node.input[0]], node, weight)[0] / grid.scale
            pixels = np.clip(np.rint(pixels) + grid.zero_point, 0, 255).astype(np.float64)
            seen, clipped = clipped_pairs(integers[node.name], _paired_rows(pixels, weight.shape[1]))
            sums, found[node.name] = sums + seen, found[node.name] + clipped
    most_first = sorted((name for name, clipped in found.items() if clipped), key=lambda name: -found[name])
    return Saturated(sums, sum(found.values()), tuple(most_first))


def clipped_pairs(weights: NDArray[np.float64], inputs: NDArray[np.float64]) -> tuple[int, int]:
    """Return how many sums of two products there are and how many lie outside 16 bits.

    `weights` int8 values [outputs, pairs, 2], `inputs` uint8 values [pairs, 2, positions].
    """
    # The largest inputs times what is positive, or negative, of both weights: where even that fits, nothing can clip.
    largest = inputs.max(2, initial=0)
    most = (largest * np.maximum(weights, 0)).sum(2)
    least = (largest * np.minimum(weights, 0)).sum(2)
    clipped = 0
    for output, pair in np.argwhere((most > _TOP) | (least < _BOTTOM)):
        sums = weights[output, pair] @ inputs[pair]
        clipped += int(((sums > _TOP) | (sums < _BOTTOM)).sum())
    return weights.shape[0] * weights.shape[1] * inputs.shape[2], clipped


def _paired(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """[outputs, C, taps...] -> [outputs, pairs, 2]: taps first, channels innermost, an odd channel beside a zero."""
    rows = weight.reshape(*weight.shape[:2], -1).swapaxes(1, 2)
    if rows.shape[2] % 2:
        rows = np.concatenate([rows, np.zeros((*rows.shape[:2], 1))], 2)
    return rows.reshape(len(weight), -1, 2)


def _paired_rows(rows: NDArray[np.float64], channels: int) -> NDArray[np.float64]:
    """[C · taps, positions] -> [pairs, 2, positions], in the order of `_paired`."""
    by_tap = rows.reshape(channels, -1, rows.shape[1]).swapaxes(0, 1)
    if channels % 2:
        by_tap = np.concatenate([by_tap, np.zeros((len(by_tap), 1, rows.shape[1]))], 1)
    return by_tap.reshape(-1, 2, rows.shape[1])
