"""float16 files: valid ONNX, pixels in float32, and no value cut off without a word."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgekd import front
from edgekd.errors import ModelError
from edgekd.quantize.feed import Feed
from edgekd.quantize.half import to_half
from edgekd.workload.normalisation import Normalisation
from tests.half import STEP, assert_front_in_float32, assert_valid
from tests.quantize.graphs import feed, graph, images, node, run, two_layers

IMAGENET = Normalisation(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
WEIGHT = np.random.default_rng(0).standard_normal((4, 3, 3, 3)) * 0.2


def pixels(count: int = 40) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, 8, 8, 3), np.uint8)


def conv_and(*nodes: NodeProto, **values: object) -> ModelProto:
    return graph([node("Conv", ["x", "w"], "c", pads=[1] * 4), *nodes], {"w": WEIGHT, **values})


def error(model: ModelProto, half: ModelProto) -> float:
    """The largest difference of the first output, relative to the largest answer."""
    wanted = run(model, images())
    return float(np.abs(assert_valid(half, {"x": images()})[0] - wanted).max() / np.abs(wanted).max())


def test_the_front_stays_in_float32_and_the_file_is_valid() -> None:
    """Its answers are exactly those of the network alone in float16, fed with what numpy normalises in float32."""
    model = two_layers()
    alone = to_half(model, feed(images())).model
    front.put_on(model, IMAGENET)
    half = to_half(model, feed(pixels(), "image")).model
    assert_front_in_float32(half)
    mean = np.array(IMAGENET.mean, np.float32)
    scale = (1 / np.array(IMAGENET.std)).astype(np.float32)
    normalised = np.ascontiguousarray(((pixels().astype(np.float32) - mean) * scale).transpose(0, 3, 1, 2))
    assert np.array_equal(assert_valid(half, {"image": pixels()})[0], run(alone, normalised))


def test_several_inputs_and_outputs_keep_their_types_and_nodes_need_no_names() -> None:
    model = conv_and(node("Add", ["c", "z"], "y"), node("ReduceMax", ["y"], "best", keepdims=0),
                     node("Shape", ["y"], "shape"))  # fmt: skip
    for each in model.graph.node:
        each.name = ""
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 4, 1, 1]))
    model.graph.output.append(helper.make_tensor_value_info("best", TensorProto.FLOAT, []))
    model.graph.output.append(helper.make_tensor_value_info("shape", TensorProto.INT64, [4]))
    given = {"x": images(), "z": np.random.default_rng(1).standard_normal((40, 4, 1, 1)).astype(np.float32)}
    fed = Feed(40, lambda start, stop: {name: value[start:stop] for name, value in given.items()})
    made = assert_valid(to_half(model, fed).model, given)
    wanted = ort.InferenceSession(model.SerializeToString()).run(None, given)
    assert [value.dtype for value in made] == [np.float32, np.float32, np.int64]
    assert all(
        np.abs(one - other).max() <= 4 * STEP * np.abs(other).max() for one, other in zip(made, wanted, strict=True)
    )


def test_nodes_that_stay_in_float32_one_after_the_other_pass_float32_on() -> None:
    """onnxruntime's converter keeps Max and Min in float32: between them nothing is rounded."""
    model = conv_and(node("Max", ["c", "low"], "m"), node("Min", ["m", "high"], "y"), low=-2.1, high=2.2)
    half = to_half(model, feed(images())).model
    kinds = [each.op_type for each in half.graph.node]
    assert kinds == ["Cast", "Conv", "Cast", "Max", "Min"]
    made = assert_valid(half, {"x": images()})[0]
    assert (made.min(), made.max()) == (np.float32(-2.1), np.float32(2.2))


@pytest.mark.parametrize("as_node", [False, True], ids=["initializer", "Constant"])
def test_a_constant_beyond_float16_is_not_cut_off(as_node: bool) -> None:
    """Cut off at 65504, as the converter does, the answers would be 15 times too small."""
    back = helper.make_node("Constant", [], ["back"], value_float=1e-6)
    model = conv_and(back, node("Mul", ["c", "factor"], "d"), node("Mul", ["d", "back"], "y"))
    factor = numpy_helper.from_array(np.array(1e6, np.float32), "factor")
    if as_node:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["factor"], value=factor))
    else:
        model.graph.initializer.append(factor)
    half = to_half(model, feed(images()))
    assert half.beyond == ("mul_d", "mul_y")
    assert error(model, half.model) <= 2 * STEP


def test_values_that_grow_beyond_float16_stay_in_float32() -> None:
    """Each constant fits, their product does not: in float16 the answers would be infinite."""
    model = conv_and(node("Mul", ["c", "factor"], "d"), node("Mul", ["d", "factor"], "e"),
                     node("Mul", ["e", "back"], "y"), factor=1e3, back=1e-6)  # fmt: skip
    half = to_half(model, feed(images()))
    assert half.beyond == ("mul_e", "mul_y")
    assert error(model, half.model) <= 2 * STEP


def test_an_output_beyond_float16_is_given_out_unrounded_under_its_name() -> None:
    model = conv_and(node("Mul", ["c", "factor"], "y"), factor=1e6)
    half = to_half(model, feed(images())).model
    assert [value.name for value in half.graph.output] == ["y"]
    assert error(model, half) <= 2 * STEP


def branches(constant: float) -> ModelProto:
    """y = 2·c where the sum of c is positive, else c + constant."""

    def branch(kind: str, name: str, values: list[TensorProto]) -> GraphProto:
        inner = helper.make_node(kind, ["c", "k"], [name], name=name)
        made = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([inner], name, [], [made], values)

    then = branch("Mul", "doubled", [numpy_helper.from_array(np.array(2, np.float32), "k")])
    other = branch("Add", "shifted", [numpy_helper.from_array(np.array(constant, np.float32), "k")])
    return conv_and(
        node("ReduceSum", ["c"], "s", keepdims=0),
        node("Greater", ["s", "zero"], "positive"),
        helper.make_node("If", ["positive"], ["y"], name="if", then_branch=then, else_branch=other),
        zero=0.0,
    )


def test_branches_are_converted_with_the_rest() -> None:
    model = branches(1.0)
    assert error(model, to_half(model, feed(images())).model) <= 4 * STEP


def test_branches_with_values_beyond_float16_are_refused() -> None:
    with pytest.raises(ModelError, match='float16 cannot hold the values of "k') as raised:
        to_half(branches(1e6), feed(images()))
    assert raised.value.hint == 'set quantize.precision = "float"'


def test_a_graph_that_the_converter_breaks_is_refused_before_it_is_written() -> None:
    """A Max, which it keeps in float32, inside a branch: its Casts would be outside of it."""
    model = branches(1.0)
    model.graph.node[-1].attribute[1].g.node[0].op_type = "Max"
    with pytest.raises(ModelError, match="cannot be converted to float16"):
        to_half(model, feed(images()))
