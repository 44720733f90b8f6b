"""Small float files as others write them: valid, odd and broken ones, and seeded damage to a good one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.quantize.graphs import graph, node

ROWS = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)


def good() -> ModelProto:
    """Conv, Relu, GlobalAveragePool, Flatten, Gemm: x [N, 3, 8, 8] to y [N, 5]."""
    generator = np.random.default_rng(0)
    values = {
        "w": generator.standard_normal((4, 3, 3, 3)),
        "b": generator.standard_normal(4),
        "f": generator.standard_normal((5, 4)),
        "fb": generator.standard_normal(5),
    }
    nodes = [
        node("Conv", ["x", "w", "b"], "c", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], "r"),
        node("GlobalAveragePool", ["r"], "p"),
        node("Flatten", ["p"], "v"),
        node("Gemm", ["v", "f", "fb"], "y", transB=1),
    ]
    return graph(nodes, values, made=["N", 5])


Change = Callable[[ModelProto], None]


def changed(change: Change) -> ModelProto:
    """Return the good file after a change."""
    model = good()
    change(model)
    return model


def constant(model: ModelProto, name: str) -> TensorProto:
    return next(value for value in model.graph.initializer if value.name == name)


def _opsets(*domains: str) -> Change:
    def change(model: ModelProto) -> None:
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid(domain, 18) for domain in domains)

    return change


def _output(*shape: int | str) -> Change:
    return lambda model: model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.FLOAT, list(shape))
    )


def _height(size: int) -> Change:
    def change(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = size

    return change


def _twice(model: ModelProto) -> None:
    model.graph.output.append(model.graph.output[0])


def _unsorted(model: ModelProto) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))


def _stale_info(model: ModelProto) -> None:
    model.graph.value_info.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, ["N", 9, 2, 2]))
    model.graph.value_info.append(helper.make_tensor_value_info("f", TensorProto.FLOAT, [4, 5]))


def _without_shape(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.ClearField("shape")


def _first_ir(model: ModelProto) -> None:
    """Before IR version 4 constants had to be inputs; not everybody wrote them."""
    model.ir_version = 3


def _passed_through(model: ModelProto) -> None:
    model.graph.output.append(model.graph.input[0])


def _passed_through_as_another(model: ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 7]))


def _constant_as_output(model: ModelProto) -> None:
    """The filters themselves, declared as of another size."""
    model.graph.output.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [1, 3, 3, 3]))


def _weight_as_output(model: ModelProto) -> None:
    """What a layer's weight is changed to is its own matter: the file returns it as it was."""
    for name in ("w", "f"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    node = model.graph.node[-1]
    del node.attribute[:]
    constant(model, "f").CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant(model, "f")).T.copy(), "f"))


def _bound(model: ModelProto) -> None:
    """Bound to an attribute of a function that is not there; onnxruntime goes by the value beside it."""
    model.graph.node[-1].attribute[0].ref_attr_name = "transposed"


def _dead(model: ModelProto) -> None:
    model.graph.node.append(node("Sigmoid", ["c"], "nobody"))


def _gemm_of_a_constant(model: ModelProto) -> None:
    """A Gemm's weight that a Constant node holds is turned, and so is its shape."""
    weight = np.random.default_rng(1).standard_normal((192, 5)).astype(np.float32)
    del model.graph.node[:], model.graph.initializer[:]
    made = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight))
    model.graph.node.extend([node("Flatten", ["x"], "v"), made, node("Gemm", ["v", "w"], "y")])


RUNS: dict[str, Change] = {
    "ONNX's domain by its other name": _opsets("ai.onnx"),
    "ONNX's domain by both names": _opsets("", "ai.onnx"),
    "a stale size of the output": _output("N", 7),
    "a stale rank of the output": _output("N"),
    "an output twice": _twice,
    "nodes in the wrong order": _unsorted,
    "stale shapes between": _stale_info,
    "an output without a shape": _without_shape,
    "constants that are no inputs in IR version 3": _first_ir,
    "an input that is an output": _passed_through,
    "an input that is an output of another shape": _passed_through_as_another,
    "a constant that is an output of another shape": _constant_as_output,
    "weights that are outputs": _weight_as_output,
    "an attribute that is bound as in a function": _bound,
    "a node that nobody needs": _dead,
    "a Gemm of a Constant": _gemm_of_a_constant,
    "a graph without a name": lambda model: model.graph.ClearField("name"),
}
"""What onnxruntime runs."""


def _no_outputs(model: ModelProto) -> None:
    del model.graph.output[:]


def _no_input(model: ModelProto) -> None:
    del model.graph.input[:]
    model.graph.initializer.append(numpy_helper.from_array(ROWS, "x"))


def _only_passed_through(model: ModelProto) -> None:
    del model.graph.output[:]
    model.graph.output.append(model.graph.input[0])


def _unknown_input(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = 99


def _no_shape(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.ClearField("shape")


def _no_classes(model: ModelProto) -> None:
    for name, empty in (("f", np.zeros((0, 4))), ("fb", np.zeros(0))):
        constant(model, name).CopyFrom(numpy_helper.from_array(empty.astype(np.float32), name))
    _output("N", 0)(model)


def _circle(model: ModelProto) -> None:
    model.graph.node[1].input[0] = "v"


def _twice_the_node(model: ModelProto) -> None:
    model.graph.node.append(model.graph.node[1])


def _twice_the_name(model: ModelProto) -> None:
    model.graph.node[1].name = model.graph.node[0].name


def _makes(name: str) -> Change:
    return lambda model: model.graph.node[1].output.__setitem__(0, name)


def _of_type(kind: int) -> Change:
    return lambda model: setattr(constant(model, "w"), "data_type", kind)


def _bytes(more: bytes) -> Change:
    def change(model: ModelProto) -> None:
        constant(model, "b").raw_data += more

    return change


def _no_utf8(model: ModelProto) -> None:
    data = model.SerializeToString().replace(b"relu_r", b"rel\xff_r")
    model.ParseFromString(data)


def _external(model: ModelProto) -> None:
    onnx.external_data_helper.set_external_data(constant(model, "w"), "missing.data")
    constant(model, "w").data_location = TensorProto.EXTERNAL
    constant(model, "w").ClearField("raw_data")


REFUSED: dict[str, tuple[Change, str]] = {
    "no output": (_no_outputs, "net.onnx has no output"),
    "no input": (_no_input, "net.onnx takes no input"),
    "an output that is an input, alone": (_only_passed_through, "(its outputs are inputs or constants)"),
    "an input of an unknown type": (_unknown_input, "Invalid tensor data type 99"),
    "an input without a shape": (_no_shape, "the input x of net.onnx has no shape"),
    "no classes": (_no_classes, "the output y of net.onnx has no values: its shape is ['N', 0]"),
    "nodes in a circle": (_circle, "the nodes of net.onnx cannot be sorted: some depend on their own results"),
    "a node twice": (_twice_the_node, "'r' has been used as output names multiple times"),
    "a node's name twice": (_twice_the_name, "two nodes with same node name (conv_c)"),
    "a node that makes a constant": (_makes("w"), "'w' has been used as output names multiple times"),
    "a node that makes an input": (_makes("x"), "'x' has been used as output names multiple times"),
    "a constant of an unknown type": (_of_type(29), 'the constant "w" of net.onnx is of the unknown type 29'),
    "a constant of another type": (_of_type(TensorProto.DOUBLE), "net.onnx"),
    "a constant with a byte too many": (_bytes(b"0"), 'the constant "b" of net.onnx is damaged'),
    "a constant twice as long": (_bytes(b"0" * 16), "(declared: [4])"),
    "a text that is not UTF-8": (_no_utf8, "net.onnx holds a name that is not UTF-8"),
    "weights in a file that is missing": (_external, "the weights of net.onnx cannot be read"),
    "an output of another type": (
        lambda model: model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.INT64, ["N", 5])),
        "does not match expected type (tensor(float))",
    ),
    "a height of 2^31": (_height(2**31), "the input x of net.onnx takes 51539607552 values at once"),
    "a height of 2^40": (_height(2**40), "the input x of net.onnx takes 26388279066624 values at once"),
}
"""What nothing can be done with, and a part of what is said of it."""

_SIZES = (0, -1, 1, 2, 3, 7, 99, 2**31, 2**40)
_KINDS = ("Conv", "Relu", "MatMul", "Reshape", "Softmax", "Split", "Cast", "Expand", "If", "LSTM", "NoSuchOperator")


def damaged(seed: int) -> bytes:
    """Return the good file with a few fields or bytes changed at random."""
    generator = np.random.default_rng(seed)
    model = good()
    if generator.random() < 0.75:
        for _ in range(int(generator.integers(1, 4))):
            _DAMAGES[int(generator.integers(len(_DAMAGES)))](model.graph, generator)
        return model.SerializeToString()
    content = bytearray(model.SerializeToString())
    for _ in range(int(generator.integers(1, 5))):
        content[int(generator.integers(len(content)))] = int(generator.integers(256))
    return bytes(content)


def _one(items: Any, generator: np.random.Generator) -> Any:
    return items[int(generator.integers(len(items)))]


def _any_name(body: GraphProto, generator: np.random.Generator) -> str:
    each: NodeProto = _one(body.node, generator)
    return str(_one(["", "nothing", *each.input, *each.output], generator))


def _damage_operator(body: GraphProto, generator: np.random.Generator) -> None:
    _one(body.node, generator).op_type = _one(_KINDS, generator)


def _damage_input(body: GraphProto, generator: np.random.Generator) -> None:
    _one(body.node, generator).input[0] = _any_name(body, generator)


def _damage_output(body: GraphProto, generator: np.random.Generator) -> None:
    _one(body.node, generator).output[0] = _any_name(body, generator)


def _damage_attribute(body: GraphProto, generator: np.random.Generator) -> None:
    body.node[0].attribute[0].ints[0] = _one(_SIZES, generator)


def _damage_dims(body: GraphProto, generator: np.random.Generator) -> None:
    value = _one(body.initializer, generator)
    value.dims[:] = [int(each) for each in generator.integers(-1, 9, int(generator.integers(5)))]


def _damage_values(body: GraphProto, generator: np.random.Generator) -> None:
    value = _one(body.initializer, generator)
    value.raw_data = generator.bytes(len(value.raw_data))


def _damage_type(body: GraphProto, generator: np.random.Generator) -> None:
    _one(body.initializer, generator).data_type = int(generator.integers(32))


def _damage_shape(body: GraphProto, generator: np.random.Generator) -> None:
    value = _one([*body.input, *body.output], generator)
    value.type.tensor_type.shape.dim[1].dim_value = _one(_SIZES, generator)


def _lose_node(body: GraphProto, generator: np.random.Generator) -> None:
    if len(body.node) > 1:
        body.node.remove(_one(body.node, generator))


def _lose_constant(body: GraphProto, generator: np.random.Generator) -> None:
    if len(body.initializer) > 1:
        body.initializer.remove(_one(body.initializer, generator))


_DAMAGES = (
    _damage_operator, _damage_input, _damage_output, _damage_attribute, _damage_dims, _damage_values, _damage_type,
    _damage_shape, _lose_node, _lose_constant,
)  # fmt: skip
