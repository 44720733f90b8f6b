"""Layers in several nodes become one, with the bias that repairs know, and answer as before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgekd.quantize import origins, shapes
from edgekd.quantize.fusing import fuse
from edgekd.quantize.wiring import Wiring, bias_of, settle
from tests.quantize.graphs import graph, images, node, run, values_of

GENERATOR = np.random.default_rng(0)
DENSE = GENERATOR.standard_normal((192, 5)).astype(np.float32)
BIAS = GENERATOR.standard_normal(5).astype(np.float32)
KERNEL = GENERATOR.standard_normal((4, 3, 3, 3)).astype(np.float32)


def fused(model: ModelProto) -> ModelProto:
    origins.mark(model)
    shapes.infer(model)
    fuse(model)
    return model


def dense(added: Any, swapped: bool = False) -> ModelProto:
    nodes = [
        node("Flatten", ["x"], "f"),
        node("MatMul", ["f", "w"], "m"),
        node("Add", ["b", "m"] if swapped else ["m", "b"], "y"),
    ]
    return graph(nodes, {"w": DENSE, "b": added}, made=None)


def kinds(model: ModelProto) -> list[str]:
    return [each.op_type for each in model.graph.node]


def in_float64(added: NDArray[Any]) -> NDArray[np.float64]:
    return images().reshape(len(images()), -1).astype(np.float64) @ DENSE + added


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("added", [BIAS, BIAS[None], np.float32(0.5), np.full(1, 0.5), np.full((1, 1), 0.5)])
def test_a_matmul_and_an_add_become_a_gemm_with_that_bias(added: NDArray[Any], swapped: bool) -> None:
    model = fused(dense(added, swapped))
    assert kinds(model) == ["Flatten", "Gemm"]
    settle(model)
    wiring = Wiring(model)
    gemm = model.graph.node[1]
    weight = wiring.weight(gemm)
    assert weight is not None
    assert np.array_equal(weight, DENSE.T)
    assert np.allclose(bias_of(wiring, gemm), np.broadcast_to(np.asarray(added).reshape(-1), 5))
    assert np.abs(run(model, images()) - in_float64(np.asarray(added))).max() < 1e-4


def test_a_gemm_stands_for_the_matmul_and_the_add() -> None:
    gemm = fused(dense(BIAS)).graph.node[1]
    assert gemm.name == "matmul_m"
    assert origins.of(gemm) == ("matmul_m", "add_y")


def test_a_matmul_without_an_add_becomes_a_gemm_too() -> None:
    model = fused(graph([node("Flatten", ["x"], "f"), node("MatMul", ["f", "w"], "y")], {"w": DENSE}, made=["N", 5]))
    assert kinds(model) == ["Flatten", "Gemm"]
    assert np.abs(run(model, images()) - in_float64(np.zeros(5))).max() < 1e-4


def unknown_rank() -> ModelProto:
    model = graph([node("MatMul", ["x", "w"], "y")], {"w": DENSE[:8]}, made=None)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize(
    "model",
    [
        graph([node("MatMul", ["x", "w"], "m"), node("Add", ["m", "b"], "y")], {"w": DENSE[:8], "b": BIAS}, made=None),
        graph([node("Flatten", ["x"], "f"), node("MatMul", ["w", "f"], "y")], {"w": DENSE.T}, ["N", 192], None),
        graph([node("Flatten", ["x"], "f"), node("MatMul", ["f", "f"], "y")], {}, [3, 3, 1, 1], None),
        unknown_rank(),
    ],
    ids=["four axes", "constant on the left", "no constant", "unknown rank"],
)
def test_what_gemm_cannot_say_stays_a_matmul(model: ModelProto) -> None:
    before = kinds(model)
    assert kinds(fused(model)) == before


@pytest.mark.parametrize("added", [np.ones((3, 5)), np.ones((3, 1)), np.ones((1, 1, 5))], ids=str)
def test_what_is_no_bias_stays_an_add(added: NDArray[Any]) -> None:
    assert kinds(fused(dense(added))) == ["Flatten", "Gemm", "Add"]


def test_a_result_that_others_read_keeps_its_add() -> None:
    model = dense(BIAS)
    model.graph.output.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, ["N", 5]))
    assert kinds(fused(model)) == ["Flatten", "Gemm", "Add"]


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1), (1, 1, 1), ()])
@pytest.mark.parametrize("bias", [True, False])
def test_what_is_added_to_a_convolution_joins_its_bias(shape: Sequence[int], bias: bool) -> None:
    own, added = np.arange(4.0), np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
    nodes = [
        node("Conv", ["x", "w", "b"] if bias else ["x", "w"], "c", auto_pad="SAME_UPPER"),
        node("Add", ["c", "a"], "y"),
    ]
    model = graph(nodes, {"w": KERNEL, "b": own, "a": added})
    before = run(model, images())
    fused(model)
    assert kinds(model) == ["Conv"]
    wanted = np.broadcast_to(added.reshape(-1), 4) + (own if bias else 0)
    assert np.allclose(values_of(model)[model.graph.node[0].input[2]], wanted)
    assert np.allclose(run(model, images()), before, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_fusing_never_changes_an_answer_whatever_is_added(data: st.DataObject) -> None:
    """Any constant that onnxruntime broadcasts, such as one that makes the result wider or of more axes."""
    outputs = data.draw(st.sampled_from([1, 3, 4]))
    convolution = data.draw(st.booleans())
    sides = [1, outputs, 5, 5] if convolution else [1, outputs]
    shape = [data.draw(st.sampled_from([1, side])) for side in sides][data.draw(st.integers(0, len(sides))) :]
    shape = [1] * data.draw(st.integers(0, 1)) + shape
    if data.draw(st.booleans()) and shape and shape[-1] == 1 == sides[-1]:
        shape[-1] = 3
    generator = np.random.default_rng(0)
    values = {"a": generator.standard_normal(shape)}
    if convolution:
        nodes, values["w"] = [node("Conv", ["x", "w"], "m")], generator.standard_normal((outputs, 3, 4, 4))
    else:
        nodes, values["w"] = [node("MatMul", ["x", "w"], "m")], generator.standard_normal((3, outputs))
    given_ = [1, 3, 8, 8] if convolution else [1, 3]
    model = graph([*nodes, node("Add", ["m", "a"], "y")], values, given_, None)
    source = generator.standard_normal(given_).astype(np.float32)
    before = run(model, source)
    fused(model)
    after = run(model, source)
    assert after.shape == before.shape
    assert np.allclose(after, before, atol=1e-4)


def test_a_batchnorm_behind_a_dense_layer_is_folded_into_it() -> None:
    norm = {
        "gamma": GENERATOR.uniform(0.5, 2, 5), "beta": GENERATOR.standard_normal(5),
        "mean": GENERATOR.standard_normal(5), "variance": GENERATOR.uniform(0.5, 2, 5),
    }  # fmt: skip
    model = dense(BIAS)
    model.graph.node[2].output[0] = "a"
    model.graph.node.append(node("BatchNormalization", ["a", *norm], "y"))
    for name, value in norm.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    model = fused(model)
    settle(model)
    assert kinds(model) == ["Flatten", "Gemm"]
    assert origins.of(model.graph.node[1]) == ("matmul_m", "add_y", "batchnormalization_y")
    factor = norm["gamma"] / np.sqrt(norm["variance"] + 1e-5)
    wanted = (in_float64(BIAS) - norm["mean"]) * factor + norm["beta"]
    assert np.abs(run(model, images()) - wanted).max() < 1e-3
