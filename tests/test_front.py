"""The front of a graph: put on, it is (pixel - mean) / std; absorbed, the first convolution does the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgekd import front
from edgekd.errors import ModelError
from edgekd.workload.normalisation import Normalisation

COMMON = Normalisation()
PER_CHANNEL = Normalisation(mean=(125.3, 123.0, 113.9), std=(63.0, 62.1, 66.7))
HEIGHT, WIDTH = 6, 5


def finished(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.float32]], channels: int) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", channels, None, None])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def convolution(bias: bool = True, pad: int = 1, group: int = 1) -> ModelProto:
    """One 3×3 convolution of 3 to 6 channels."""
    generator = np.random.default_rng(1)
    constants = {"w": generator.standard_normal((6, 3 // group, 3, 3)).astype(np.float32)}
    if bias:
        constants["b"] = generator.standard_normal(6).astype(np.float32)
    node = helper.make_node("Conv", ["x", *constants], ["logits"], kernel_shape=[3, 3], pads=[pad] * 4, group=group)
    return finished([node], constants, 6)


def with_front(model: ModelProto, normalisation: Normalisation = COMMON) -> ModelProto:
    front.put_on(model, normalisation)
    return model


def run(model: ModelProto, values: NDArray[np.generic]) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: values})[0]
    return found


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (4, HEIGHT, WIDTH, 3), np.uint8)


@pytest.mark.parametrize("normalisation", [COMMON, PER_CHANNEL], ids=["common", "per channel"])
def test_the_front_subtracts_the_mean_and_divides_by_std(
    pixels: NDArray[np.uint8], normalisation: Normalisation
) -> None:
    model = with_front(finished([helper.make_node("Identity", ["x"], ["logits"])], {}, 3), normalisation)
    onnx.checker.check_model(model)
    expected = ((pixels - np.array(normalisation.mean)) / np.array(normalisation.std)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(run(model, pixels), expected, rtol=1e-5, atol=1e-6)


def test_the_input_becomes_pixels_with_height_before_width() -> None:
    model = with_front(convolution())
    (entry,) = model.graph.input
    assert (entry.name, entry.type.tensor_type.elem_type) == ("image", TensorProto.UINT8)
    assert [dim.dim_param or dim.dim_value for dim in entry.type.tensor_type.shape.dim] == ["N", HEIGHT, WIDTH, 3]
    assert front.shape_of(model) == (HEIGHT, WIDTH)


def test_the_nodes_of_the_front_are_these_four() -> None:
    assert [node.op_type for node in front.nodes_of(with_front(convolution()))] == ["Transpose", "Cast", "Sub", "Mul"]
    assert front.nodes_of(convolution()) == []


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_an_absorbed_front_gives_the_same_answer_padding_included(pixels: NDArray[np.uint8], bias: bool) -> None:
    model = with_front(convolution(bias))
    expected = run(model, pixels)
    absorption = front.absorb(model)
    assert absorption == front.Absorption(scale=2.0**-6, zero_point=128, exact=True)
    onnx.checker.check_model(model)
    np.testing.assert_allclose(run(model, front.as_input(pixels, absorption)), expected, rtol=1e-4, atol=1e-4)


def test_per_channel_means_are_absorbed_but_not_exactly(pixels: NDArray[np.uint8]) -> None:
    model = with_front(convolution(), PER_CHANNEL)
    expected = run(model, pixels)
    absorption = front.absorb(model)
    assert absorption is not None
    assert (absorption.zero_point, absorption.exact) == (121, False)
    difference = np.abs(run(model, front.as_input(pixels, absorption)) - expected)
    assert difference[:, :, 1:-1, 1:-1].max() < 1e-4
    assert difference.max() > 1e-3


def test_without_padding_per_channel_means_are_absorbed_everywhere(pixels: NDArray[np.uint8]) -> None:
    model = with_front(convolution(pad=0), PER_CHANNEL)
    expected = run(model, pixels)
    absorption = front.absorb(model)
    assert absorption is not None
    np.testing.assert_allclose(run(model, front.as_input(pixels, absorption)), expected, rtol=1e-4, atol=1e-4)


def test_a_front_whose_factor_is_folded_already_is_absorbed(pixels: NDArray[np.uint8]) -> None:
    model = with_front(convolution())
    weight = next(value for value in model.graph.initializer if value.name == "w")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) / np.float32(64), "w"))
    multiply = next(node for node in model.graph.node if node.op_type == "Mul")
    next(node for node in model.graph.node if node.op_type == "Conv").input[0] = multiply.input[0]
    model.graph.node.remove(multiply)
    expected = run(model, pixels)
    absorption = front.absorb(model)
    assert absorption is not None
    assert absorption.exact
    np.testing.assert_allclose(run(model, front.as_input(pixels, absorption)), expected, rtol=1e-4, atol=1e-4)


def test_an_absorbed_graph_keeps_nothing_of_the_front() -> None:
    model = with_front(convolution())
    front.absorb(model)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    assert [value.name for value in model.graph.initializer] == ["front_weight", "front_bias"]
    assert [value.name for value in model.graph.input] == ["front_pixels"]


def twice() -> ModelProto:
    """Two readers of the input: a convolution, and a sum with it."""
    weight = np.ones((3, 3, 1, 1), np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Add", ["c", "x"], ["logits"])]
    return finished(nodes, {"w": weight}, 3)


def computed() -> ModelProto:
    """A convolution whose weights are not constant."""
    nodes = [helper.make_node("Neg", ["v"], ["w"]), helper.make_node("Conv", ["x", "w"], ["logits"])]
    return finished(nodes, {"v": np.ones((3, 3, 1, 1), np.float32)}, 3)


def rectified() -> ModelProto:
    return finished([helper.make_node("Relu", ["x"], ["logits"])], {}, 3)


@pytest.mark.parametrize("make", [twice, computed, rectified, lambda: convolution(group=3)])
def test_where_it_cannot_be_absorbed_the_graph_stays_as_it_was(make: type[ModelProto]) -> None:
    model = with_front(make())
    before = model.SerializeToString()
    assert front.absorb(model) is None
    assert model.SerializeToString() == before


def test_a_graph_without_a_front_has_nothing_to_absorb() -> None:
    assert front.absorb(convolution()) is None


def test_pixels_as_the_input_of_an_absorbed_graph() -> None:
    found = front.as_input(np.full((1, 1, 2, 3), 192, np.uint8), front.Absorption(2.0**-6, 128, True))
    assert (found.dtype, found.shape) == (np.float32, (1, 3, 1, 2))
    assert (found == 1.0).all()


def quantized_entry() -> ModelProto:
    """What a quantizer leaves of an absorbed input: QuantizeLinear, DequantizeLinear, the rest."""
    constants = {"s": np.array(2.0**-6, np.float32), "w": np.ones((3, 3, 1, 1), np.float32)}
    return finished(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            helper.make_node("Conv", ["d", "w"], ["logits"]),
        ],
        {**constants, "z": np.array(128, np.uint8)},
        3,
    )


def test_pixels_enter_a_quantized_graph_without_a_conversion(pixels: NDArray[np.uint8]) -> None:
    model = quantized_entry()
    expected = run(model, front.as_input(pixels, front.Absorption(2.0**-6, 128, True)))
    front.pixels_enter(model)
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Transpose", "DequantizeLinear", "Conv"]
    assert np.array_equal(run(model, pixels), expected)


def test_an_input_that_was_left_in_float_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="the quantizer left the graph's input in float"):
        front.pixels_enter(convolution())


def opened(model: ModelProto, *sides: str) -> ModelProto:
    """Leave height and width of input and output open."""
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], sides, strict=True):
        dim.Clear()
        if name:
            dim.dim_param = name
    return model


@pytest.mark.parametrize("sides", [("H", "W"), ("", "")], ids=["named", "without names"])
def test_open_sides_stay_open_through_front_and_absorption(pixels: NDArray[np.uint8], sides: tuple[str, str]) -> None:
    model = with_front(opened(convolution(), *sides))
    shape = model.graph.input[0].type.tensor_type.shape
    assert [dim.dim_param or dim.dim_value or "" for dim in shape.dim] == ["N", *sides, 3]
    expected, small = run(model, pixels), run(model, pixels[:, :4, :3])
    absorption = front.absorb(model)
    assert absorption is not None
    assert [dim.dim_param or dim.dim_value or "" for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        "N", 3, *sides,
    ]  # fmt: skip
    for given, wanted in ((pixels, expected), (pixels[:, :4, :3], small)):
        np.testing.assert_allclose(run(model, front.as_input(given, absorption)), wanted, rtol=1e-4, atol=1e-4)


def test_a_graph_of_one_channel_takes_grey_pixels(pixels: NDArray[np.uint8]) -> None:
    model = convolution(group=3)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    conv = model.graph.node[0]
    next(each for each in conv.attribute if each.name == "group").i = 1
    front.put_on(model, Normalisation(mean=(100.0,) * 3, std=(50.0,) * 3))
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][-1] == 1
    grey = pixels[:, :, :, :1]
    expected = run(model, grey)
    absorption = front.absorb(model)
    assert absorption == front.Absorption(scale=2.0**-6, zero_point=100, exact=True)
    np.testing.assert_allclose(run(model, front.as_input(grey, absorption)), expected, rtol=1e-4, atol=1e-4)
