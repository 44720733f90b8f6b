"""Convolutions and pools of one to three axes cover what onnxruntime's do, under every padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgekd.errors import ModelError
from edgekd.train.onnx_module import OnnxModule

CHANNELS = 4


def model_of(kind: str, sizes: list[int], **attributes: Any) -> ModelProto:
    """Return one node over [2, 4, *sizes]; a convolution has two groups and a bias."""
    weight = np.random.default_rng(1).standard_normal((6, CHANNELS // 2, *attributes["kernel_shape"]))
    values = {"w": weight, "b": np.arange(6)} if kind == "Conv" else {}
    attributes |= {"group": 2} if kind == "Conv" else {}
    node = helper.make_node(kind, ["x", *values], ["y"], name="window", **attributes)
    body = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, CHANNELS, *sizes])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def draw_axes(draw: st.DrawFn, least: int, most: int, rank: int) -> list[int]:
    return draw(st.lists(st.integers(least, most), min_size=rank, max_size=rank))


@st.composite
def windows(draw: st.DrawFn) -> tuple[str, list[int], dict[str, Any]]:
    """Draw an operator, the sizes of its image and its attributes; the kernel fits into the image."""
    kind = draw(st.sampled_from(["Conv", "MaxPool", "AveragePool"]))
    rank = draw(st.integers(1, 3))
    kernel = draw_axes(draw, 1, 4, rank)
    automatic = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    found: dict[str, Any] = {"kernel_shape": kernel, "auto_pad": automatic}
    if automatic.startswith("SAME"):
        found["strides"] = [draw(st.integers(1, size)) for size in kernel]
    else:
        found |= {"strides": draw_axes(draw, 1, 3, rank), "dilations": draw_axes(draw, 1, 3, rank)}
    if automatic == "NOTSET":
        # onnxruntime takes no padding as large as the kernel.
        found["pads"] = [draw(st.integers(0, size - 1)) for size in kernel * 2]
    if kind != "Conv" and automatic != "VALID":
        found["ceil_mode"] = draw(st.integers(0, 1))
    if kind == "AveragePool":
        found["count_include_pad"] = draw(st.integers(0, 1))
    reach = [step * (size - 1) + 1 for size, step in zip(kernel, found.get("dilations", [1] * rank), strict=True)]
    return kind, [far + draw(st.integers(0, 5)) for far in reach], found


@settings(max_examples=150, deadline=None)
@given(windows())
def test_a_window_gives_what_onnxruntime_gives(case: tuple[str, list[int], dict[str, Any]]) -> None:
    kind, sizes, attributes = case
    model = model_of(kind, sizes, **attributes)
    images = np.random.default_rng(2).standard_normal((2, CHANNELS, *sizes)).astype(np.float32)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": images})[0]
    with torch.inference_mode():
        found = OnnxModule(model)(torch.from_numpy(images)).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4


@settings(max_examples=40, deadline=None)
@given(windows())
def test_the_gradient_of_a_window_is_that_of_its_differences(case: tuple[str, list[int], dict[str, Any]]) -> None:
    kind, sizes, attributes = case
    module = OnnxModule(model_of(kind, sizes, **attributes)).double()
    # All values differ by far more than a step of the differences: the largest stays the largest.
    count = 2 * CHANNELS * int(np.prod(sizes))
    images = torch.from_numpy(np.random.default_rng(3).permutation(count) / 10.0).reshape(2, CHANNELS, *sizes)
    assert torch.autograd.gradcheck(module, images.requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("ends", [0, 1])
@pytest.mark.parametrize("counted", [0, 1])
def test_the_mean_of_a_window_beyond_the_image_counts_what_is_there(ends: int, counted: int) -> None:
    """Four ones under a kernel of 3 with strides of 2: the last window holds 2 of them, or 1 and a padding."""
    attributes = {"kernel_shape": [3], "strides": [2], "pads": [0, ends], "ceil_mode": 1, "count_include_pad": counted}
    model = model_of("AveragePool", [4], **attributes)
    found = OnnxModule(model)(torch.ones(2, CHANNELS, 4))
    last = 2 / 3 if ends and counted else 1.0
    assert found[0, 0].tolist() == pytest.approx([1.0, last])


@pytest.mark.parametrize(
    ("kind", "attributes", "why"),
    [
        ("Conv", {"kernel_shape": [1] * 4}, "its kernel has 4 axes, and 1 to 3 are known"),
        ("MaxPool", {"kernel_shape": [1] * 4}, "its kernel has 4 axes"),
        ("AveragePool", {"kernel_shape": [2], "auto_pad": "SOMEHOW"}, "its auto_pad SOMEHOW is not known"),
        ("Conv", {"kernel_shape": [2], "auto_pad": "SAME_UPPER", "dilations": [2]}, "SAME_UPPER with dilations"),
        ("MaxPool", {"kernel_shape": [2], "auto_pad": "SAME_LOWER", "dilations": [2]}, "SAME_LOWER with dilations"),
        ("AveragePool", {"kernel_shape": [2], "auto_pad": "VALID", "ceil_mode": 1}, "VALID with ceil_mode"),
        ("MaxPool", {"kernel_shape": [1], "auto_pad": "SAME_UPPER", "strides": [2]}, "strides beyond its kernel"),
    ],
)
def test_a_window_that_runtimes_disagree_on_is_refused_by_name(kind: str, attributes: dict[str, Any], why: str) -> None:
    sizes = [8] * len(attributes["kernel_shape"])
    with pytest.raises(ModelError, match=f'cannot train the {kind} "window": .*{why}') as caught:
        OnnxModule(model_of(kind, sizes, **attributes))
    assert caught.value.hint == "leave out [finetune]"
