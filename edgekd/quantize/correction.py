"""Bias correction: what rounding the weights shifts on average is put back into the bias.

Nagel et al. 2019 (arXiv:1906.04721), section 4.2: E[ỹ] - E[y] = (W̃ - W)·E[x], with E[x] from calibration images, per
position of the kernel, so that borders count as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgekd.quantize.grid import rounded_weight, weight_scales
from edgekd.quantize.patches import per_input
from edgekd.quantize.wiring import Wiring, bias_of, give_bias
from edgekd.target import Int8


def correct_biases(
    model: ModelProto,
    patches: Mapping[str, NDArray[np.float64]],
    policy: Int8,
    in_float: frozenset[str],
    before: Mapping[str, NDArray[np.float32]],
    scales: Mapping[str, NDArray[np.float32]],
) -> int:
    """Shift the biases of all layers that are rounded, in place; return how many.

    `patches` are mean inputs by node; `before` and `scales`, by node and weight, belong to weights that already lie on
    their grid: what they were, and their scales.
    """
    wiring = Wiring(model)
    count = 0
    for node in model.graph.node:
        weight = wiring.weight(node)
        if weight is None or node.name not in patches or node.name in in_float:
            continue
        scale = scales.get(node.input[1], weight_scales(weight, policy))
        error = rounded_weight(weight, scale, policy) - before.get(node.name, weight)
        mean = per_input(patches[node.name], node, len(weight))
        shift = (error * mean).reshape(len(weight), -1).sum(1)
        give_bias(wiring, node, bias_of(wiring, node) - shift)
        count += 1
    return count
