"""Scale and zero point are those that onnxruntime's quantizer computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.quantization.quant_utils import compute_scale_zp, get_qmin_qmax_for_qType

from edgekd.quantize.grid import of_activation, weight_levels, weight_scales
from edgekd.target import Int8

UINT8, INT8 = 2, 3
ends = st.floats(-100, 100, width=32)


@given(ends, ends, st.sampled_from(["uint8", "int8"]))
def test_an_activations_grid_is_onnxruntimes(one: float, other: float, kind: str) -> None:
    low, high = np.float32(min(one, other)), np.float32(max(one, other))
    least, most = get_qmin_qmax_for_qType(UINT8 if kind == "uint8" else INT8)
    zero_point, scale = compute_scale_zp(low, high, least, most)
    ours = of_activation(float(low), float(high), Int8(activations=kind))
    assert ours.scale == pytest.approx(float(scale), rel=1e-6)
    assert abs(ours.zero_point - int(zero_point)) <= 1
    assert float(ours.rounded(np.zeros(1))[0]) == 0.0, "zero is on the grid"


@given(st.integers(0, 1000), st.booleans())
def test_weights_scales_reach_the_largest_value_of_each_channel(seed: int, seven_bits: bool) -> None:
    policy = Int8(reduce_range=seven_bits)
    weight = np.random.default_rng(seed).standard_normal((5, 3, 3, 3)).astype(np.float32)
    scale = weight_scales(weight, policy)
    reached = np.abs(weight).reshape(5, -1).max(1) / scale
    assert np.allclose(reached, 64 if seven_bits else 127, rtol=1e-5)
    assert weight_levels(policy) == ((-64, 64) if seven_bits else (-127, 127))


def test_per_tensor_every_channel_has_the_same_scale() -> None:
    weight = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    assert len(set(weight_scales(weight, Int8(per_channel=False)).tolist())) == 1


def test_symmetric_activations_have_zero_in_the_middle() -> None:
    grid = of_activation(-1.0, 3.0, Int8(activations="int8", symmetric=True))
    assert (grid.zero_point, grid.least, grid.most, grid.scale) == (0, -127, 127, pytest.approx(3 / 127))


def test_rounding_clips_at_both_ends() -> None:
    grid = of_activation(0.0, 2.55, Int8())
    assert grid.rounded(np.array([-1.0, 1.004, 9.0])).tolist() == pytest.approx([0.0, 1.0, 2.55])
