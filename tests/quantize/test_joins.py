"""What stays in float behind a graph's last layers, and that scores beside boxes survive int8 by it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from edgekd.errors import ModelError
from edgekd.quantize import settled
from edgekd.quantize.divergence import Measure
from edgekd.quantize.entry import Entry
from edgekd.quantize.joins import around, mixed, tail_of
from edgekd.quantize.stage import INT8
from edgekd.quantize.wiring import Wiring
from edgekd.quantizing import Quantizer
from edgekd.recipe import Quantize
from edgekd.store import Store
from edgekd.target import Int8
from edgekd.workload.arrays import INPUTS
from tests.quantize.graphs import feed, graph, images, node, run


def detector(scale: float = 320.0) -> ModelProto:
    """Boxes from 0 to `scale` and scores from 0 to 1 in one output [N, 7, 64], as YOLO exports them."""
    generator = np.random.default_rng(0)
    values = {
        "w1": generator.standard_normal((16, 3, 3, 3)) * 0.3,
        "b1": generator.standard_normal(16) * 0.1,
        "wb": generator.standard_normal((4, 16, 1, 1)) * 0.2,
        "ws": generator.standard_normal((3, 16, 1, 1)) * 0.6,
        "bs": np.full(3, -3.0),
        "anchors": np.linspace(0.5, 7.5, 64).reshape(1, 1, 64),
        "stride": np.array(scale / 8),
        "to4": np.array([0, 4, -1]),
        "to3": np.array([0, 3, -1]),
    }
    nodes = [
        node("Conv", ["x", "w1", "b1"], "c", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], "r"),
        node("Conv", ["r", "wb"], "b"),
        node("Conv", ["r", "ws", "bs"], "s"),
        node("Reshape", ["b", "to4"], "flat_b"),
        node("Reshape", ["s", "to3"], "flat_s"),
        node("Sigmoid", ["flat_s"], "scores"),
        node("Add", ["flat_b", "anchors"], "positions"),
        node("Mul", ["positions", "stride"], "boxes"),
        node("Concat", ["boxes", "scores"], "y", axis=1),
    ]
    return graph(nodes, values, made=["N", 7, 64])


def quantizer_of(model: ModelProto, folder: Path, config: Quantize | None = None) -> Quantizer:
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "graph.onnx")
    (folder / "samples").mkdir()
    np.save(folder / "samples" / "input-0.npy", images(64))
    (folder / "samples" / INPUTS).write_text(json.dumps(["x"]))
    store = Store(folder / "store")
    return Quantizer(
        store, folder / "graph.onnx", folder / "samples", Int8(), config or Quantize(), Entry(kind="arrays")
    )


def int8_of(quantizer: Quantizer) -> ModelProto:
    return onnx.load(quantizer.first().require() / INT8)


def test_a_joined_output_keeps_its_scores(tmp_path: Path) -> None:
    """On one grid of 0 to 320 all scores would be 0 or 1.25; each part keeps its own, its convolution is integer."""
    model = detector()
    int8 = int8_of(quantizer_of(model, tmp_path))
    held_out = images(32, seed=1)
    (found,) = Measure().differences({"y": run(model, held_out)}, {"y": run(int8, held_out)})
    assert found.lost < 0.01
    readers = [each.op_type for each in int8.graph.node if each.op_type in {"QuantizeLinear", "Concat", "Conv"}]
    assert readers.count("Concat") == 1
    makers = {each.output[0]: each for each in int8.graph.node}
    concat = next(each for each in int8.graph.node if each.op_type == "Concat")
    assert {makers[name].op_type for name in concat.input} == {"Mul", "Sigmoid"}, "no DequantizeLinear: still in float"
    for conv in (each for each in int8.graph.node if each.op_type == "Conv"):
        assert makers[conv.input[0]].op_type == "DequantizeLinear"


def test_the_joins_are_told_with_what_they_join(tmp_path: Path) -> None:
    quantizer = quantizer_of(detector(), tmp_path)
    metrics = quantizer.repaired().metrics
    (concat,) = [join for join in metrics["joins"] if join["node"] == "concat_y"]
    assert concat["largest"] > 100 * concat["smallest"]
    assert set(metrics["float_around_joins"]) == {
        "reshape_flat_b", "reshape_flat_s", "sigmoid_scores", "add_positions", "mul_boxes", "concat_y",
    }  # fmt: skip


def test_parts_of_like_size_are_quantized(tmp_path: Path) -> None:
    """Maps of two convolutions in one Concat: integers hold both."""
    values = {f"w{number}": np.random.default_rng(number).standard_normal((8, 3, 3, 3)) for number in (1, 2)}
    nodes = [
        node("Conv", ["x", "w1"], "a", pads=[1, 1, 1, 1]),
        node("Conv", ["x", "w2"], "b", pads=[1, 1, 1, 1]),
        node("Concat", ["a", "b"], "y", axis=1),
    ]
    quantizer = quantizer_of(graph(nodes, values, made=["N", 16, 8, 8]), tmp_path)
    assert quantizer.repaired().metrics["float_around_joins"] == []


def test_a_join_before_a_layer_is_no_end_of_the_graph() -> None:
    """Residual additions whose branch is small are everywhere: they stay integer."""
    values = {
        "w1": np.random.default_rng(1).standard_normal((3, 3, 3, 3)) * 1e-3,
        "w2": np.random.default_rng(2).standard_normal((4, 3, 3, 3)),
    }
    nodes = [
        node("Conv", ["x", "w1"], "a", pads=[1, 1, 1, 1]),
        node("Add", ["a", "x"], "s"),
        node("Conv", ["s", "w2"], "y", pads=[1, 1, 1, 1]),
    ]
    model = onnx.shape_inference.infer_shapes(graph(nodes, values))
    assert tail_of(Wiring(model)) == []


def test_the_expectation_over_distances_is_arithmetic_not_a_layer() -> None:
    """YOLOv8 writes it as a convolution of 16 weights behind a Softmax."""
    values = {
        "w": np.random.default_rng(1).standard_normal((16, 3, 3, 3)),
        "steps": np.arange(16.0).reshape(1, 16, 1, 1),
    }
    nodes = [
        node("Conv", ["x", "w"], "a", pads=[1, 1, 1, 1]),
        node("Softmax", ["a"], "p", axis=1),
        node("Conv", ["p", "steps"], "y"),
    ]
    model = onnx.shape_inference.infer_shapes(graph(nodes, values, made=["N", 1, 8, 8]))
    assert [each.name for each in tail_of(Wiring(model))] == ["softmax_p", "conv_y"]


@pytest.mark.parametrize("scale", [2.0, 320.0])
def test_positions_that_are_added_to_offsets_are_parts_of_their_own(scale: float) -> None:
    model = onnx.shape_inference.infer_shapes(detector(scale))
    tail = tail_of(Wiring(model))
    joins = mixed(model, tail, feed(images(8)))
    assert "concat_y" in {join.node for join in joins} or scale == 2.0
    assert around(Wiring(model), tail, joins) <= {each.name for each in tail}


def test_nodes_named_by_the_user_stay_in_float(tmp_path: Path) -> None:
    quantizer = quantizer_of(detector(), tmp_path, Quantize(float=("conv_[bs]", "relu_r")))
    assert quantizer.repaired().metrics["float_by_name"] == ["conv_b", "conv_s", "relu_r"]
    makers = {each.output[0]: each for each in int8_of(quantizer).graph.node}
    convolutions = [each for each in makers.values() if each.op_type == "Conv"]
    assert [makers[each.input[1]].op_type if each.input[1] in makers else "constant" for each in convolutions] == [
        "DequantizeLinear", "constant", "constant",
    ]  # fmt: skip


def test_a_name_that_fits_no_node_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match='no node is named "conv_q"'):
        quantizer_of(detector(), tmp_path, Quantize(float=("conv_q",))).first()


def test_a_folded_norm_is_found_by_its_own_name(tmp_path: Path) -> None:
    """The user names the BatchNorm of their file; it is the convolution that stands for it."""
    model = detector()
    for name, value in (("g", 1.5), ("o", 0.1), ("m", 0.2), ("v", 0.9)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(16, value, np.float32), name))
    model.graph.node.insert(1, node("BatchNormalization", ["c", "g", "o", "m", "v"], "n"))
    model.graph.node[2].input[0] = "n"
    found = settled.settled(model, Entry(kind="arrays"))
    kept = settled.kept_in_float(found, feed(images(8)), ["batchnormalization_n"]).kept
    assert kept.named == ("conv_c",)
