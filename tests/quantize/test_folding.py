"""Constants are folded, without a change of what the graph computes, and without making much out of little."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgekd.quantize import origins
from edgekd.quantize.folding import fold
from tests.quantize.graphs import graph, images, node, run, values_of

WEIGHT = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
SCALES = (np.abs(WEIGHT).reshape(4, -1).max(1) / 127).astype(np.float32)
ROUNDED = np.round(WEIGHT / SCALES.reshape(-1, 1, 1, 1)).astype(np.int8)


def with_weight(nodes: Sequence[NodeProto], values: dict[str, Any], opset: int = 18) -> ModelProto:
    """Return a convolution whose weight w is computed by the nodes."""
    model = graph([*nodes, node("Conv", ["x", "w"], "y", pads=[1, 1, 1, 1])], {})
    for name, value in values.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    model.opset_import[0].version = opset
    model.ir_version = 10 if opset > 20 else 8
    return model


def kinds(model: ModelProto) -> list[str]:
    return [each.op_type for each in model.graph.node]


COMPUTED = {
    "reshape": with_weight(
        [node("Reshape", ["flat", "s"], "w")], {"flat": WEIGHT.reshape(-1), "s": np.array([4, 3, 3, 3])}
    ),
    "a chain": with_weight(
        [node("Transpose", ["t"], "a", perm=[3, 2, 1, 0]), node("Mul", ["a", "two"], "w")],
        {"t": WEIGHT.T.copy(), "two": np.float32(2)},
    ),
    "dequantized per channel": with_weight(
        [node("DequantizeLinear", ["q", "scale", "zero"], "w", axis=0)],
        {"q": ROUNDED, "scale": SCALES, "zero": np.zeros(4, np.int8)},
    ),
    "dequantized with a zero point": with_weight(
        [node("DequantizeLinear", ["q", "scale", "zero"], "w")],
        {"q": (ROUNDED.astype(np.int16) + 128).astype(np.uint8), "scale": np.float32(0.01), "zero": np.uint8(128)},
    ),
    "dequantized in blocks": with_weight(
        [
            node("DequantizeLinear", ["q", "scale"], "b", axis=1, block_size=9),
            node("Reshape", ["b", "s"], "w"),
        ],
        {"q": ROUNDED.reshape(4, 27), "scale": np.repeat(SCALES, 3).reshape(4, 3), "s": np.array([4, 3, 3, 3])},
        opset=21,
    ),
    "float16": with_weight(
        [node("Cast", ["h"], "w", to=TensorProto.FLOAT)], {"h": WEIGHT.astype(np.float16)}
    ),
    "numbers of a Constant": with_weight(
        [
            helper.make_node("Constant", [], ["f"], value_floats=[float(each) for each in WEIGHT.reshape(-1)]),
            helper.make_node("Constant", [], ["s"], value_ints=[4, 3, 3, 3]),
            node("Reshape", ["f", "s"], "w"),
        ],
        {},
    ),
    "joined": with_weight(
        [node("Concat", ["a", "b"], "w", axis=0)], {"a": WEIGHT[:1], "b": WEIGHT[1:]}
    ),
    "indices": with_weight(
        [
            node("ConstantOfShape", ["n"], "ones", value=numpy_helper.from_array(np.array([1]))),
            node("NonZero", ["ones"], "i"),
            node("Squeeze", ["i", "zero"], "j"),
            node("Gather", ["v", "j"], "w"),
        ],
        {"n": np.array([4]), "zero": np.array([0]), "v": WEIGHT},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_a_weight_that_is_computed_becomes_the_constant_that_onnxruntime_computes(name: str) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(COMPUTED[name])
    before = run(model, images())
    fold(model)
    assert kinds(model) == ["Conv"]
    assert set(values_of(model)) == {"w"}
    assert np.allclose(run(model, images()), before, atol=1e-6)
    onnx.checker.check_model(model, full_check=True)


STEPS = ("Transpose", "Reshape", "Neg", "Slice", "Concat", "Add", "Unsqueeze", "Identity")


def step(kind: str, source: str, made: str, draw: Any) -> tuple[NodeProto, dict[str, NDArray[Any]]]:
    """Return a node that keeps a weight's 12 or more values in order or not, and its constants."""
    extra: dict[str, NDArray[Any]] = {}
    attributes: dict[str, Any] = {}
    inputs = [source]
    if kind == "Reshape":
        extra = {f"{made}_s": np.array(draw(st.sampled_from([[-1], [-1, 2], [2, -1], [1, -1, 2]])))}
    elif kind == "Slice":
        extra = {f"{made}_from": np.array([0]), f"{made}_to": np.array([2**62]), f"{made}_axes": np.array([0])}
    elif kind == "Add":
        extra = {f"{made}_a": np.array(draw(st.floats(-2, 2, width=32)), np.float32)}
    elif kind == "Unsqueeze":
        extra = {f"{made}_u": np.array([0])}
    elif kind == "Concat":
        inputs, attributes = [source, source], {"axis": 0}
    return node(kind, [*inputs, *extra], made, **attributes), extra


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_folding_never_changes_an_answer(data: st.DataObject) -> None:
    """Chains of what exporters put before weights; the last step makes the added constant a number again."""
    chosen = data.draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=6))
    nodes, values, source = [], {"v": np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)}, "v"
    for number, kind in enumerate(chosen):
        made, extra = step(kind, source, f"t{number}", data.draw)
        nodes.append(made)
        values |= extra
        source = f"t{number}"
    nodes += [node("ReduceSum", [source], "sum", keepdims=0), node("Add", ["x", "sum"], "y")]
    model = graph(nodes, values, made=["N", 3, 8, 8])
    before = run(model, images(3))
    fold(model)
    assert kinds(model) == ["Add"]
    assert np.allclose(run(model, images(3)), before, rtol=1e-5, atol=1e-5)


LARGE = {
    "ConstantOfShape": (["s"], {"s": np.array([1, 3, 10**5, 10**5])}),
    "Expand": (["one", "s"], {"one": np.ones((1, 3, 1, 1), np.float32), "s": np.array([1, 3, 10**5, 10**5])}),
    "Tile": (["one", "r"], {"one": np.ones((1, 3, 8, 8), np.float32), "r": np.array([1, 1, 10**4, 10**4])}),
    "Range": (["a", "b", "c"], {"a": np.float32(0), "b": np.float32(1e9), "c": np.float32(1)}),
}


@pytest.mark.parametrize("kind", LARGE)
def test_what_makes_much_out_of_little_stays(kind: str) -> None:
    inputs, values = LARGE[kind]
    nodes = [node(kind, inputs, "large"), node("ReduceMax", ["large"], "m", keepdims=0), node("Add", ["x", "m"], "y")]
    model = graph(nodes, values, made=["N", 3, 8, 8])
    tracemalloc.start()
    fold(model)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kind in kinds(model)
    assert model.ByteSize() < 2**14
    assert most < 2**26, "bytes; computed, it would be gigabytes"


def test_many_small_growths_share_one_budget() -> None:
    """Each doubling is small beside all constants; a chain of 30 would be a billion times as large."""
    nodes = [node("Neg", ["v"], "n0")]
    for number in range(30):
        nodes += [
            node("Neg", [f"n{number}"], f"m{number}"),
            node("Concat", [f"n{number}", f"m{number}"], f"n{number + 1}", axis=0),
        ]
    nodes += [node("ReduceMax", ["n30"], "m", keepdims=0), node("Add", ["x", "m"], "y")]
    model = graph(nodes, {"v": np.ones(16)}, made=["N", 3, 8, 8])
    fold(model)
    assert 0 < kinds(model).count("Concat") < 30
    assert model.ByteSize() < 4 * 2**20


@pytest.mark.parametrize("kind", ["RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"])
def test_random_numbers_are_drawn_at_run_time(kind: str) -> None:
    nodes = [
        node("Neg", ["v"], "n"),
        node("Abs", ["n"], "p"),
        node(kind, ["p"], "r"),
        node("Cast", ["r"], "f", to=TensorProto.FLOAT),
        node("ReduceMax", ["f"], "m", keepdims=0),
        node("Add", ["x", "m"], "y"),
    ]
    model = graph(nodes, {"v": np.full((2, 3), 0.5)}, made=["N", 3, 8, 8])
    fold(model)
    assert kinds(model) == [kind, "Cast", "ReduceMax", "Add"]
    assert list(values_of(model)) == ["p"]


def test_a_constant_that_the_caller_gets_keeps_its_name() -> None:
    model = with_weight([node("Reshape", ["flat", "s"], "w")], {"flat": WEIGHT, "s": np.array([4, 3, 3, 3])})
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 3, 3, 3]))
    fold(model)
    assert kinds(model) == ["Conv"]
    assert [value.name for value in model.graph.output] == ["y", "w"]
    assert np.array_equal(values_of(model)["w"], WEIGHT)


def test_nodes_that_stay_keep_their_names_and_what_they_stand_for() -> None:
    model = with_weight([node("Reshape", ["flat", "s"], "w")], {"flat": WEIGHT, "s": np.array([4, 3, 3, 3])})
    origins.mark(model)
    convolution = model.graph.node[1].SerializeToString()
    fold(model)
    assert [each.SerializeToString() for each in model.graph.node] == [convolution]
    assert origins.of(model.graph.node[0]) == ("conv_y",)


FOLDS = """
import sys, hashlib, onnx
from edgekd.quantize.folding import fold
model = onnx.load(sys.argv[1])
fold(model)
print(hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(), len(model.graph.node))
print(sorted({"torch", "onnxscript"} & set(sys.modules)))
"""


def folded_elsewhere(file: Path, seed: int) -> list[str]:
    environment = {"PYTHONHASHSEED": str(seed), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", FOLDS, str(file)], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.splitlines()


def test_equal_files_fold_to_equal_bytes_and_without_torch(tmp_path: Path) -> None:
    model = with_weight(
        [
            node("Concat", ["a", "b"], "c", axis=0),
            node("Neg", ["c"], "d"),
            node("Abs", ["c"], "e"),
            node("Add", ["d", "e"], "w"),
        ],
        {"a": WEIGHT[:1], "b": WEIGHT[1:]},
    )
    onnx.save(model, tmp_path / "net.onnx")
    first, second = (folded_elsewhere(tmp_path / "net.onnx", seed) for seed in (1, 2))
    assert first == second
    assert first[0].endswith(" 1")
    assert first[1] == "['onnxscript']"


def test_a_graph_with_nothing_to_fold_does_not_wait_for_the_optimizer(tmp_path: Path) -> None:
    onnx.save(graph([node("Conv", ["x", "w"], "y", pads=[1] * 4)], {"w": WEIGHT}), tmp_path / "net.onnx")
    assert folded_elsewhere(tmp_path / "net.onnx", 1)[1] == "[]"
