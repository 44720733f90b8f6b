"""Each operator does what its opset says, passes gradients, and is refused by name where it is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch.func import functional_call

from edgekd.errors import ModelError
from edgekd.train.onnx_module import OnnxModule

X = np.random.default_rng(0).standard_normal((2, 3, 4, 1)).astype(np.float32)


def model_of(
    nodes: Sequence[NodeProto], values: Mapping[str, Any], opset: int = 18, kind: int = TensorProto.FLOAT
) -> ModelProto:
    """Return a graph x -> y with these initializers."""
    body = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info("x", kind, [2, 3, 4, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def one(kind: str, values: Mapping[str, Any] | None = None, opset: int = 18, **attributes: Any) -> ModelProto:
    """Return a graph of one node named n."""
    values = values or {}
    return model_of([helper.make_node(kind, ["x", *values], ["y"], name="n", **attributes)], values, opset)


def answers(model: ModelProto) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what the module makes of X, and what onnxruntime does: ONNX's reference has no older opsets' rules."""
    with torch.inference_mode():
        found = OnnxModule(model).eval()(torch.from_numpy(X)).numpy()
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return found, session.run(None, {"x": X})[0]


ENDS = st.none() | st.floats(-2, 2, width=32)


@settings(max_examples=100, deadline=None)
@given(low=ENDS, high=ENDS, opset=st.sampled_from([6, 11, 18]))
def test_clip_with_any_end_left_out_is_numpys(low: float | None, high: float | None, opset: int) -> None:
    """Where the least is above the most, the most is what comes out, as in numpy."""
    ends = {"low": low, "high": high}
    if opset == 6:
        given_ends = {name: end for name, end in zip(("min", "max"), ends.values(), strict=True) if end is not None}
        model = one("Clip", opset=opset, **given_ends)
    else:
        values = {name: np.float32(end) for name, end in ends.items() if end is not None}
        names = [name if end is not None else "" for name, end in ends.items()]
        model = model_of([helper.make_node("Clip", ["x", *names], ["y"])], values, opset)
    found = OnnxModule(model)(torch.from_numpy(X)).numpy()
    expected = np.minimum(np.maximum(X, -np.inf if low is None else low), np.inf if high is None else high)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize(
    "model",
    [
        one("Softmax", opset=11),
        one("Softmax", opset=11, axis=2),
        one("Softmax", opset=13),
        one("Softmax", opset=13, axis=1),
        one("Squeeze", opset=11),
        one("Squeeze", opset=11, axes=[3]),
        one("Squeeze", opset=13),
        one("Squeeze", {"axes": np.array([-1])}, opset=13),
        one("Unsqueeze", opset=11, axes=[0, 3]),
        one("Unsqueeze", {"axes": np.array([-1, 1])}, opset=13),
        one("ReduceMean", opset=13, axes=[1, -1], keepdims=0),
        one("ReduceMean", opset=13),
        one("ReduceMean", {"axes": np.array([], np.int64)}),
        one("ReduceMean", {"axes": np.array([], np.int64)}, noop_with_empty_axes=1),
        one("ReduceMean", noop_with_empty_axes=1),
        one("Flatten", axis=-2),
        one("Flatten", axis=0),
        one("Reshape", {"shape": np.array([0, -1])}),
        one("Dropout", opset=11, ratio=0.5),
        one("Dropout", {"ratio": np.float32(0.5), "mode": np.array(False)}),
        one("Dropout", {"ratio": np.float32(0), "mode": np.array(True)}),
        one("BatchNormalization", {"s": np.float32([1, 2, 3]), "b": np.float32([0, 1, 0]),
                                   "m": np.float32([0, 0.5, 1]), "v": np.float32([1, 2, 0.5])}, epsilon=0.01),
        one("BatchNormalization", {"s": np.ones(3, np.float32), "b": np.zeros(3, np.float32),
                                   "m": np.zeros(3, np.float32), "v": np.full(3, 4, np.float32)}, opset=9),
        one("GlobalAveragePool"),
        model_of([helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w", ""], ["y"])],
                 {"w": np.ones((12, 5), np.float32)}),
    ],
)  # fmt: skip
def test_what_changed_with_the_opset_or_has_defaults_is_onnxruntimes(model: ModelProto) -> None:
    found, expected = answers(model)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


LEARNED = {
    "a row": ([helper.make_node("Squeeze", ["x", "axes"], ["r"]),
               helper.make_node("Conv", ["r", "w", "b"], ["y"], pads=[1, 0], strides=[2])], (5, 3, 2)),
    "an image": ([helper.make_node("Conv", ["x", "w", "b"], ["y"], auto_pad="SAME_UPPER")], (5, 3, 2, 2)),
    "a cube": ([helper.make_node("Unsqueeze", ["x", "axes"], ["r"]),
                helper.make_node("Conv", ["r", "w", "b"], ["y"], pads=[0, 0, 1, 0, 0, 0])], (5, 3, 2, 1, 1)),
    "a vector": ([helper.make_node("Flatten", ["x"], ["f"]),
                  helper.make_node("Gemm", ["f", "w", "b"], ["y"], alpha=0.5, beta=2.0)], (12, 5)),
}  # fmt: skip


@pytest.mark.parametrize("case", LEARNED)
def test_the_gradient_of_weight_and_bias_is_that_of_their_differences(case: str) -> None:
    nodes, shape = LEARNED[case]
    generator = np.random.default_rng(1)
    values = {"w": generator.standard_normal(shape).astype(np.float32), "b": np.ones(5, np.float32)}
    module = OnnxModule(model_of(nodes, values | {"axes": np.array([3])})).double()
    images = torch.from_numpy(X).double()

    def made(bias: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional_call(module, {"values.0": bias, "values.1": weight}, (images,))  # type: ignore[no-any-return]

    assert module.names == ["b", "w"]
    assert torch.autograd.gradcheck(made, tuple(module.values))


def test_scale_and_bias_of_a_batch_normalization_are_learned_and_its_statistics_are_not() -> None:
    values = {name: np.full(3, value, np.float32) for name, value in {"s": 2, "b": 1, "m": 0.5, "v": 4}.items()}
    module = OnnxModule(one("BatchNormalization", values)).train()
    module(torch.from_numpy(X)).square().sum().backward()
    assert module.names == ["b", "s"]
    assert all(float(value.grad.abs().min()) > 0 for value in module.values if value.grad is not None)
    fixed = {name: value.tolist() for name, value in module.named_buffers()}
    assert fixed == {"fixed0": [0.5] * 3, "fixed1": [4.0] * 3}


FLOAT = np.float32
REFUSED: dict[str, ModelProto] = {
    'the Dropout "n": it is in training mode': one("Dropout", {"r": FLOAT(0.3), "t": np.array(True)}),
    'the Dropout "n": it is in training mode ': one("Dropout", opset=6),
    'the BatchNormalization "n": it is in training mode': one(
        "BatchNormalization", {name: np.ones(3, FLOAT) for name in "sbmv"}, training_mode=1),
    'the BatchNormalization "n": it has a mean for every pixel': one(
        "BatchNormalization", {name: np.ones((3, 4, 1), FLOAT) for name in "sbmv"}, opset=7, spatial=0),
    'the Cast "n": it makes DOUBLE': one("Cast", to=TensorProto.DOUBLE),
    'the Cast "n": it makes INT64': one("Cast", to=TensorProto.INT64),
    'the Cast "n": it makes DOUBLE ': one("Cast", opset=5, to="DOUBLE"),
    'the Add "n": it broadcasts along an axis, as only opset 6 does': one(
        "Add", {"c": np.ones(3, FLOAT)}, opset=6, broadcast=1, axis=1),
    'the Mul "n": it computes with INT64': one("Mul", {"c": np.array(2)}),
    'the Clip "n": its input "low" is computed, and must be an initializer': model_of(
        [helper.make_node("Relu", ["c"], ["low"]), helper.make_node("Clip", ["x", "low"], ["y"], name="n")],
        {"c": FLOAT(1)}),
    'the Reshape "n": its input "shape" is computed, and must be an initializer': model_of(
        [helper.make_node("Identity", ["x"], ["shape"]), helper.make_node("Reshape", ["x", "shape"], ["y"], name="n")],
        {}),
    'the Conv "n": the shape of its kernel is not known': model_of(
        [helper.make_node("Relu", ["x"], ["w"]), helper.make_node("Conv", ["x", "w"], ["y"], name="n")], {}),
    'the Relu "n": it reads "late", which is made by no node before it': model_of(
        [helper.make_node("Relu", ["late"], ["y"], name="n"), helper.make_node("Relu", ["x"], ["late"])], {}),
    'the MaxPool "n": its further output "at" is read': model_of(
        [helper.make_node("MaxPool", ["x"], ["m", "at"], name="n", kernel_shape=[1, 1]),
         helper.make_node("Cast", ["at"], ["y"], to=1)], {}),
    'does not know the operator com.microsoft.Conv': model_of(
        [helper.make_node("Conv", ["x"], ["y"], domain="com.microsoft")], {}),
    'finds nothing that makes the output "y"': model_of([helper.make_node("Relu", ["x"], ["z"])], {}),
    'the Sub "n": it computes with UINT8': model_of(
        [helper.make_node("Sub", ["x", "c"], ["y"], name="n")], {"c": np.uint8(1)}, kind=TensorProto.UINT8),
    'needs an input of FLOAT or UINT8, "x" is DOUBLE': model_of(
        [helper.make_node("Relu", ["x"], ["y"])], {}, kind=TensorProto.DOUBLE),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_not_known_is_refused_by_name_before_anything_runs(why: str) -> None:
    with pytest.raises(ModelError, match=r"^fine-tuning ") as caught:
        OnnxModule(REFUSED[why])
    assert why.strip() in caught.value.message
    assert "leave out [finetune]" in caught.value.hint


def test_a_node_without_a_name_is_named_by_what_it_makes() -> None:
    model = model_of([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE)], {})
    with pytest.raises(ModelError, match='the Cast "y": it makes DOUBLE'):
        OnnxModule(model)


def test_a_graph_with_two_inputs_is_refused() -> None:
    model = one("Relu")
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    with pytest.raises(ModelError, match="needs one input, the graph has 2"):
        OnnxModule(model)


def test_pixels_are_cast_and_turned_as_in_the_graph() -> None:
    """A uint8 graph [N, H, W, C] is fed the pixels [N, C, H, W] as floats."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["t"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    module = OnnxModule(model_of(nodes, {}, kind=TensorProto.UINT8))
    pixels = torch.arange(24.0).reshape(2, 1, 3, 4)
    assert torch.equal(module(pixels), pixels)
