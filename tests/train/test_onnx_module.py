"""An ONNX graph as a torch module computes what onnxruntime computes, in float and rounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import ModelProto
from onnx.shape_inference import infer_shapes

from edgekd.errors import ModelError
from edgekd.quantize import qdq
from edgekd.quantize.entry import Entry
from edgekd.quantize.grid import Grid, of_activation, weight_levels
from edgekd.quantize.observing import observe
from edgekd.quantize.qdq import KINDS
from edgekd.quantize.settled import settled
from edgekd.target import Int8
from edgekd.train.onnx_module import OnnxModule, Rounding, Step
from tests.quantize.graphs import feed, graph, images, node, run, two_layers, values_of

GENERATOR = np.random.default_rng(0)
W = GENERATOR.standard_normal((4, 3, 3, 3))
AXES = np.array([2, 3])
CASES: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "conv": ([node("Conv", ["x", "w"], "y", pads=[1, 1, 1, 1], strides=[2, 2])], {"w": W}),
    "conv, uneven pads": ([node("Conv", ["x", "w", "b"], "y", pads=[0, 1, 2, 0])], {"w": W, "b": np.ones(4)}),
    "depthwise": ([node("Conv", ["x", "w"], "y", group=3, dilations=[2, 2])], {"w": W[:3, :1]}),
    "gemm": ([node("Flatten", ["x"], "f"), node("Gemm", ["f", "w", "b"], "y", alpha=0.5, beta=2.0)],
             {"w": GENERATOR.standard_normal((192, 5)), "b": np.ones(5)}),
    "gemm, turned": ([node("Flatten", ["x"], "f"), node("Gemm", ["f", "w"], "y", transB=1)],
                     {"w": GENERATOR.standard_normal((5, 192))}),
    "matmul": ([node("Flatten", ["x"], "f"), node("MatMul", ["f", "w"], "y")],
               {"w": GENERATOR.standard_normal((192, 5))}),
    "relu": ([node("Relu", ["x"], "y")], {}),
    "clip": ([node("Clip", ["x", "low", "high"], "y")], {"low": np.array(-0.5), "high": np.array(0.7)}),
    "leaky": ([node("LeakyRelu", ["x"], "y", alpha=0.2)], {}),
    "hard swish": ([node("HardSwish", ["x"], "y")], {}),
    "hard sigmoid": ([node("HardSigmoid", ["x"], "y", alpha=0.3)], {}),
    "sigmoid times": ([node("Sigmoid", ["x"], "s"), node("Mul", ["s", "x"], "y")], {}),
    "add, sub, div": ([node("Add", ["x", "c"], "a"), node("Sub", ["a", "x"], "s"), node("Div", ["s", "d"], "y")],
                      {"c": np.full((1, 3, 1, 1), 2.0), "d": np.array(4.0)}),
    "max pool": ([node("MaxPool", ["x"], "y", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], {}),
    "max pool, uneven": ([node("MaxPool", ["x"], "y", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1])], {}),
    "mean pool": ([node("AveragePool", ["x"], "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], {}),
    "global pool": ([node("GlobalAveragePool", ["x"], "y")], {}),
    "reduce": ([node("ReduceMean", ["x", "axes"], "y", keepdims=0)], {"axes": AXES}),
    "squeeze": ([node("GlobalAveragePool", ["x"], "p"), node("Squeeze", ["p", "axes"], "y")], {"axes": AXES}),
    "unsqueeze": ([node("Unsqueeze", ["x", "axes"], "y")], {"axes": np.array([1, 5])}),
    "concat": ([node("Relu", ["x"], "r"), node("Concat", ["x", "r"], "y", axis=1)], {}),
    "reshape": ([node("Reshape", ["x", "shape"], "y")], {"shape": np.array([0, -1, 16])}),
    "transpose": ([node("Transpose", ["x"], "y", perm=[0, 2, 3, 1])], {}),
    "softmax": ([node("Flatten", ["x"], "f"), node("Softmax", ["f"], "y", axis=1)], {}),
}  # fmt: skip


def model_of(case: str) -> ModelProto:
    nodes, values = CASES[case]
    return graph(nodes, values, made=None)


@pytest.mark.parametrize("case", CASES)
def test_an_operator_gives_what_onnxruntime_gives(case: str) -> None:
    model = model_of(case)
    with torch.inference_mode():
        found = OnnxModule(model).eval()(torch.from_numpy(images(5))).numpy()
    expected = run(model, images(5))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(ModelError, match="does not know the operator Erf"):
        OnnxModule(graph([node("Erf", ["x"], "y")], {}))


def rounding_of(model: ModelProto, policy: Int8, grids: dict[str, Grid]) -> Rounding:
    steps = {name: Step(grid.scale, grid.zero_point, grid.least, grid.most) for name, grid in grids.items()}
    return Rounding(steps, weight_levels(policy)[1], policy.per_channel)


def small_net() -> ModelProto:
    """Two residual layers, a pool and a head, whose answers are far apart."""
    generator = np.random.default_rng(1)
    values = {
        "w1": generator.standard_normal((8, 3, 3, 3)) * 0.3, "b1": generator.standard_normal(8),
        "w2": generator.standard_normal((8, 8, 3, 3)) * 0.15, "b2": generator.standard_normal(8),
        "w3": generator.standard_normal((10, 8)) * 3, "b3": generator.standard_normal(10),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w1", "b1"], "c1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], "r1"),
        node("Conv", ["r1", "w2", "b2"], "c2", pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], "s"),
        node("Relu", ["s"], "r2"),
        node("MaxPool", ["r2"], "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["m"], "p"),
        node("Flatten", ["p"], "f"),
        node("Gemm", ["f", "w3", "b3"], "y", transB=1),
    ]
    return graph(nodes, values, made=["N", 10])


def attending_net() -> ModelProto:
    """A layer capped from above whose channels are weighted by a convolution over their means (ECA), and a head."""
    generator = np.random.default_rng(1)
    values = {
        "w1": generator.standard_normal((8, 3, 3, 3)) * 0.4, "b1": generator.standard_normal(8),
        "w2": generator.standard_normal((1, 1, 3)) * 2, "b2": np.array([0.3]), "most": np.array(1.5),
        "w3": generator.standard_normal((10, 8)) * 3, "b3": generator.standard_normal(10),
        "last": np.array([3]), "one": np.array([-1]),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w1", "b1"], "c1", pads=[1, 1, 1, 1]),
        node("Clip", ["c1", "", "most"], "k"),
        node("GlobalAveragePool", ["k"], "p"),
        node("Squeeze", ["p", "last"], "s"),
        node("Transpose", ["s"], "t", perm=[0, 2, 1]),
        node("Conv", ["t", "w2", "b2"], "c2", pads=[1, 1]),
        node("Transpose", ["c2"], "u", perm=[0, 2, 1]),
        node("Unsqueeze", ["u", "one"], "e"),
        node("Sigmoid", ["e"], "g"),
        node("Mul", ["k", "g"], "m"),
        node("GlobalAveragePool", ["m"], "q"),
        node("Flatten", ["q"], "f"),
        node("Gemm", ["f", "w3", "b3"], "y", transB=1),
    ]
    return graph(nodes, values, made=["N", 10])


@pytest.mark.parametrize("net", [small_net, attending_net])
@pytest.mark.parametrize("policy", [Int8(), Int8(reduce_range=True), Int8(per_channel=False)])
def test_simulation_and_onnxruntime_agree(policy: Int8, net: Callable[[], ModelProto]) -> None:
    found = settled(net(), entry=_entry())
    given = images(500, seed=3)
    seen = observe(found.model, found.tensors, feed(given), "none", lambda done, total: None)
    grids = {name: of_activation(seen.low[name], seen.high[name], policy) for name in found.tensors}
    quantized = qdq.quantized(found.model, grids, {}, policy)
    expected = run_exactly(quantized, given)
    module = OnnxModule(found.model, rounding_of(found.model, policy, grids)).eval()
    with torch.inference_mode():
        answers = module(torch.from_numpy(given)).numpy()
    assert (answers.argmax(1) == expected.argmax(1)).mean() >= 0.998
    assert (np.abs(answers - expected).max(1) <= 1.01 * grids["y"].scale).mean() >= 0.95


def run_exactly(model: ModelProto, given: np.ndarray) -> np.ndarray:
    """Run without the saturation of x86 without VNNI."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": given})[0])


def _entry() -> Entry:
    return Entry(kind="arrays")


@pytest.mark.parametrize(
    "kind",
    ["Conv", "Conv1d", "Conv3d", "depthwise", "Gemm", "Gemm as it stands", "MatMul", "stacked MatMul", "Add", "pool"],
)
def test_a_layer_fed_equal_inputs_is_within_one_step(kind: str) -> None:
    generator = np.random.default_rng(0)
    made: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
        "Conv": ([node("Conv", ["x", "w", "b"], "y", pads=[1] * 4)], {"w": W, "b": np.ones(4)}),
        "Conv1d": ([node("Reshape", ["x", "rows"], "r"), node("Conv", ["r", "w", "b"], "y", pads=[2, 0])],
                   {"w": W[:, :, 0] * np.array([1, 9, 3, 5]).reshape(4, 1, 1), "b": np.ones(4),
                    "rows": np.array([0, 3, 64])}),
        "Conv3d": ([node("Reshape", ["x", "cubes"], "r"), node("Conv", ["r", "w", "b"], "y")],
                   {"w": generator.standard_normal((4, 3, 2, 2, 2)) * np.array([1, 9, 3, 5]).reshape(4, 1, 1, 1, 1),
                    "b": np.ones(4), "cubes": np.array([0, 3, 4, 4, 4])}),
        "depthwise": ([node("Conv", ["x", "w", "b"], "y", group=3)], {"w": W[:3, :1], "b": np.ones(3)}),
        "Gemm": ([node("Flatten", ["x"], "f"), node("Gemm", ["f", "w", "b"], "y", transB=1)],
                 {"w": generator.standard_normal((5, 192)), "b": np.ones(5)}),
        "Gemm as it stands": ([node("Flatten", ["x"], "f"), node("Gemm", ["f", "w", "b"], "y")],
                              {"w": generator.standard_normal((192, 5)) * np.arange(1, 6), "b": np.ones(5)}),
        "MatMul": ([node("MatMul", ["x", "w"], "y")], {"w": generator.standard_normal((8, 5)) * np.arange(1, 6)}),
        "stacked MatMul": ([node("MatMul", ["x", "w"], "y")],
                           {"w": generator.standard_normal((3, 8, 5)) * np.arange(1, 9).reshape(1, 8, 1)}),
        "Add": ([node("Add", ["x", "x"], "y")], {}),
        "pool": ([node("GlobalAveragePool", ["x"], "y")], {}),
    }  # fmt: skip
    nodes, values = made[kind]
    model = graph(nodes, values, made=None)
    found = settled(model, _entry()).model if kind in {"Conv", "Conv1d", "depthwise", "Gemm"} else infer_shapes(model)
    expected = run(found, images(20))
    grids = {"x": of_activation(-4, 4, Int8())}
    grids["y"] = of_activation(float(expected.min()), float(expected.max()), Int8())
    answers = OnnxModule(found, rounding_of(found, Int8(), grids)).eval()(torch.from_numpy(images(20))).detach().numpy()
    rounded = run_exactly(qdq.quantized(found, grids, {}, Int8()), images(20))
    assert {each.op_type for each in found.graph.node} <= KINDS
    assert np.abs(answers - rounded).max() <= 1.01 * grids["y"].scale
    assert (np.abs(answers - rounded) < 0.01 * grids["y"].scale).mean() > 0.98


def test_what_was_trained_is_written_back_under_its_own_names() -> None:
    model = two_layers()
    module = OnnxModule(model)
    assert module.names == ["b1", "b2", "w1", "w2"]
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    module(torch.from_numpy(images(4))).square().mean().backward()
    optimizer.step()
    before = values_of(model)
    module.write_back(model)
    after = values_of(model)
    assert all(np.abs(after[name] - before[name]).max() > 0 for name in module.names)
    with torch.inference_mode():
        assert np.allclose(module(torch.from_numpy(images(4))).numpy(), run(model, images(4)), atol=1e-4)


def test_every_weight_of_a_net_with_a_convolution_over_channels_is_learned_while_rounded() -> None:
    model = settled(attending_net(), _entry()).model
    grids = {name: of_activation(-4, 4, Int8()) for name in ("x", "k", "c2", "g", "m", "y")}
    module = OnnxModule(model, rounding_of(model, Int8(), grids))
    module(torch.from_numpy(images(8))).square().mean().backward()
    assert module.names == ["b1", "b2", "b3", "w1", "w2", "w3"]
    assert all(value.grad is not None and float(value.grad.abs().max()) > 0 for value in module.values)


def test_gradients_pass_through_rounding_and_stop_where_values_are_clipped() -> None:
    model = graph([node("Conv", ["x", "w"], "y")], {"w": np.eye(3).reshape(3, 3, 1, 1)}, made=["N", 3, 8, 8])
    grids = {"x": of_activation(0, 1, Int8()), "y": of_activation(0, 1, Int8())}
    module = OnnxModule(model, rounding_of(model, Int8(), grids))
    given = torch.full((1, 3, 8, 8), 0.3)
    given[:, 0] = 2.0
    given.requires_grad_()
    module(given).sum().backward()
    assert given.grad is not None
    assert given.grad[0, 0].abs().max() == 0
    assert torch.allclose(given.grad[0, 1:], torch.ones(2, 8, 8), atol=1e-2)
