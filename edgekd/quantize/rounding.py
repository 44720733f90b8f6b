"""Learned rounding: each weight goes up or down so that the layer's output, not the weight, changes least.

Nagel et al. 2020 (AdaRound, arXiv:2004.10568) state the problem: with inputs x of a layer, the loss of rounding W to Ŵ
is quadratic in Ŵ - W, with the inputs' second moments as its matrix. It is solved as Frantar et al. 2022 do (OPTQ,
arXiv:2210.17323): column by column, each column's error made good by those that are not rounded yet. The inputs are
those that the layer will really get, on their grid x̃, and what is aimed at is the float layer's W·x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from edgekd.quantize.feed import Feed
from edgekd.quantize.grid import Grid, weight_levels, weight_scales
from edgekd.quantize.observing import tensor_session, values_of
from edgekd.quantize.wiring import Array, Wiring, geometry, groups
from edgekd.target import Int8

_DAMPING = 0.01
"""Of the mean second moment, added to the diagonal, as OPTQ does."""
_POSITIONS = 32
"""Places of each image that are looked at, spread evenly."""
_GRAM_BYTES = 128 * 2**20
_MOST_BYTES = 384 * 2**20
"""A layer whose moments take more is rounded to nearest: time grows with the cube of its inputs."""
_BATCH = 16
Layer: TypeAlias = tuple[NodeProto, Array]


@dataclass(frozen=True)
class Rounded:
    """Weights that lie on their grid, by name, their scales, and by node what they were."""

    weights: Mapping[str, NDArray[np.float32]]
    scales: Mapping[str, NDArray[np.float32]]
    before: Mapping[str, NDArray[np.float32]]


def learn(
    model: ModelProto,
    feed: Feed,
    grids: Mapping[str, Grid],
    policy: Int8,
    in_float: frozenset[str],
    show: Callable[[int, int], None],
) -> Rounded:
    """Return rounded weights for every convolution and Gemm whose input has a grid; the model is not changed.

    Memory holds the second moments of some layers at a time, whatever the number of images.
    """
    layers = [layer for layer in Wiring(model).layers(grids, in_float) if _size(*layer) <= _MOST_BYTES]
    weights, scales, before = {}, {}, {}
    done = 0
    for part in _parts(layers):
        for (node, weight), moments in zip(part, _moments(model, part, feed, grids), strict=True):
            scale = weight_scales(weight, policy)
            weights[node.input[1]] = optq(weight, scale, moments, groups(node), policy)
            scales[node.input[1]], before[node.name] = scale, weight
            done += 1
            show(done, len(layers))
    return Rounded(weights, scales, before)


@dataclass
class Moments:
    """Σ x̃·x̃ᵀ and Σ (x - x̃)·x̃ᵀ of one layer's patches, [groups, K, K] each."""

    own: NDArray[np.float64]
    shifted: NDArray[np.float64]


def optq(
    weight: NDArray[np.float32], scale: NDArray[np.float32], moments: Moments, parts: int, policy: Int8
) -> NDArray[np.float32]:
    """Return the weight [outputs, inputs of a group, ...] on the grid of its scales.

    Never worse than rounding to nearest, by the loss on the same moments: where it would be, nearest is returned.
    """
    least, most = weight_levels(policy)
    steps = scale.astype(np.float64).reshape(parts, -1, 1)
    flat = weight.reshape(parts, len(weight) // parts, -1).astype(np.float64)
    damped = moments.own + _DAMPING * np.eye(flat.shape[2]) * _mean_diagonal(moments.own)
    wanted = flat + np.linalg.solve(damped, (flat @ moments.shifted).swapaxes(1, 2)).swapaxes(1, 2)
    # Columns whose inputs are largest go first: their errors have the most columns left to be made good by.
    order = np.argsort(-np.diagonal(moments.own, axis1=1, axis2=2).mean(0), kind="stable")
    inverse = np.linalg.inv(damped[:, order][:, :, order])
    upper = np.linalg.cholesky(inverse).swapaxes(1, 2)
    left, found = wanted[:, :, order], np.empty_like(flat)
    for column in range(flat.shape[2]):
        value = left[:, :, column]
        on_grid = np.clip(np.rint(value / steps[:, :, 0]), least, most) * steps[:, :, 0]
        found[:, :, order[column]] = on_grid
        error = (value - on_grid) / upper[:, column, column, None]
        left[:, :, column + 1 :] -= error[:, :, None] * upper[:, None, column, column + 1 :]
    nearest = np.clip(np.rint(flat / steps), least, most) * steps
    better = _loss(found - wanted, damped) <= _loss(nearest - wanted, damped)
    return np.where(better[:, :, None], found, nearest).reshape(weight.shape).astype(np.float32)


def _loss(error: NDArray[np.float64], moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the loss of each output, [groups, outputs of a group]."""
    return np.asarray(((error @ moments) * error).sum(2))


def _mean_diagonal(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    mean = np.diagonal(moments, axis1=1, axis2=2).mean(1)
    return np.where(mean > 0, mean, 1.0)[:, None, None]


def _size(node: NodeProto, weight: Array) -> int:
    return int(groups(node) * (weight[0].size ** 2) * 2 * 8)


def _parts(layers: list[Layer]) -> Iterator[list[Layer]]:
    """Yield as many layers at a time as their moments fit into memory, at least one."""
    part: list[Layer] = []
    held = 0
    for layer in layers:
        size = _size(*layer)
        if part and held + size > _GRAM_BYTES:
            yield part
            part, held = [], 0
        part.append(layer)
        held += size
    if part:
        yield part


def _moments(model: ModelProto, layers: list[Layer], feed: Feed, grids: Mapping[str, Grid]) -> list[Moments]:
    names = list(dict.fromkeys(node.input[0] for node, _ in layers))
    session = tensor_session(model, names)
    found: dict[str, Moments] = {}
    for _, inputs in feed.batches_for(session, _BATCH):
        values = values_of(session, names, inputs)
        for node, weight in layers:
            moments = _moments_of(patches(values[node.input[0]], node, weight), grids[node.input[0]])
            if node.name in found:
                found[node.name].own += moments.own
                found[node.name].shifted += moments.shifted
            else:
                found[node.name] = moments
    return [found[node.name] for node, _ in layers]


def _moments_of(own: NDArray[np.float32], grid: Grid) -> Moments:
    """Multiply in float32, a batch at a time; sums of batches are of float64."""
    on_grid = grid.rounded(own).astype(np.float32)
    turned = on_grid.swapaxes(1, 2)
    return Moments((on_grid @ turned).astype(np.float64), ((own - on_grid) @ turned).astype(np.float64))


def patches(value: NDArray[np.float32], node: NodeProto, weight: Array) -> NDArray[np.float32]:
    """Return what lies under a layer's weight at some positions, [groups, K, images · positions]."""
    if node.op_type == "Gemm":
        return value.T[None]
    shape = geometry(node, weight)
    padded = shape.padded(value)
    counts = shape.positions(padded.shape)
    total = int(np.prod(counts))
    chosen = np.unravel_index(np.unique(np.linspace(0, total - 1, min(_POSITIONS, total)).astype(int)), counts)
    rows = []
    for tap in np.ndindex(*shape.kernel):
        at = tuple(
            where * stride + offset * step
            for where, stride, offset, step in zip(chosen, shape.strides, tap, shape.dilations, strict=True)
        )
        rows.append(padded[(slice(None), slice(None), *at)])
    # [taps, N, C, positions] -> [groups, C of a group · taps, N · positions], the order of a weight's own axes.
    stacked = np.stack(rows).transpose(2, 0, 1, 3).reshape(value.shape[1], len(rows), -1)
    return np.ascontiguousarray(stacked.reshape(groups(node), -1, stacked.shape[2]))
