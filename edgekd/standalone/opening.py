"""A float ONNX file of others is read, brought into the form that the rest works on, and opened by onnxruntime once.

What onnxruntime runs is accepted: unsorted nodes are sorted, ONNX's domain gets one name, declared shapes that are
stale are inferred anew. What it does not run is refused with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx.version_converter
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, numpy_helper

from edgekd import constants, runtime
from edgekd.errors import ModelError, first_line
from edgekd.quantize import shapes

_OLDEST, _OPSET, _IR = 13, 18, 8
"""DequantizeLinear has had scales per channel since opset 13."""
_EXPORT = "export the model again, with a current exporter"


def loaded(file: Path, as_it_is: bool = False) -> ModelProto:
    """Read a float ONNX file, brought to what int8 needs unless it stays as it is.

    Raises ModelError for one that onnxruntime does not run.
    """
    model = _parsed(file)
    _unbind(model.graph)
    if as_it_is:
        _open_negative(model.graph)
        runtime.check_opens(model, file.name)
        _check_inputs(model.graph, file.name)
        return model
    _state_defaults(model)
    _use_one_domain(model)
    _sort(model, file.name)
    _check(model, file.name)
    model = _modern(model, file.name)
    _open_negative(model.graph)
    runtime.check_opens(model, file.name)
    _infer(model, file.name)
    _check_inputs(model.graph, file.name)
    _check_tensors("output", model.graph.output, file.name)
    return model


def _parsed(file: Path) -> ModelProto:
    if not file.is_file():
        raise ModelError(f"no model {file}", "name a float ONNX file")
    try:
        model = onnx.load(file, load_external_data=False)
    except Exception as error:
        # protobuf and onnx raise without a common base class.
        raise ModelError(f"{file.name} is not an ONNX file: {first_line(error)}", "export it again") from None
    if not _is_text(model):
        raise ModelError(f"{file.name} holds a name that is not UTF-8", "it is damaged: export it again")
    try:
        onnx.load_external_data_for_model(model, str(file.parent))
    except Exception as error:
        raise ModelError(
            f"the weights of {file.name} cannot be read: {first_line(error)}",
            "they are in files of their own: keep those beside it, under the names that they were exported with",
        ) from None
    return model


def _is_text(message: Any) -> bool:
    """Whether all texts of a message are UTF-8; others protobuf gives as bytes (7.36), and nobody expects those."""
    for field, value in message.ListFields():
        parts = value if hasattr(value, "append") else [value]
        if field.type == field.TYPE_STRING and not all(isinstance(part, str) for part in parts):
            return False
        if field.type == field.TYPE_MESSAGE and not all(_is_text(part) for part in parts):
            return False
    return True


def _unbind(graph: GraphProto) -> None:
    """Drop what binds an attribute to one of a function: outside functions onnxruntime goes by its value alone."""
    for node in _nodes(graph):
        for attribute in node.attribute:
            attribute.ClearField("ref_attr_name")


def _state_defaults(model: ModelProto) -> None:
    """State what onnxruntime does without: a current IR version, in which constants are no inputs, and a name."""
    model.ir_version = max(model.ir_version, _IR)
    model.graph.name = model.graph.name or "graph"


def _use_one_domain(model: ModelProto) -> None:
    """Call ONNX's own domain by its empty name; of several versions of it the last counts, as in onnxruntime."""
    standard = [opset.version for opset in model.opset_import if opset.domain in constants.STANDARD]
    others = [opset for opset in model.opset_import if opset.domain not in constants.STANDARD]
    if standard:
        others.insert(0, onnx.helper.make_opsetid("", standard[-1]))
    del model.opset_import[:]
    model.opset_import.extend(others)
    for node in _nodes(model.graph):
        if node.domain in constants.STANDARD:
            node.domain = ""


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _nodes(inner)


def _sort(model: ModelProto, name: str) -> None:
    """Put every node behind those that it reads from, where the file does not. Raises ModelError for a cycle."""
    made = {output for node in model.graph.node for output in node.output}
    seen: set[str] = set()
    for node in model.graph.node:
        if any(source in made and source not in seen for source in node.input if source):
            break
        seen.update(node.output)
    else:
        return
    # Imported late: it brings sympy, 0.2 s, and few files are unsorted.
    import onnx_ir  # noqa: PLC0415

    try:
        read = onnx_ir.from_proto(model)
    except onnx_ir.serde.SerdeError:
        return  # no graph at all; the checker says why
    try:
        read.graph.sort()
    except ValueError:
        raise ModelError(f"the nodes of {name} cannot be sorted: some depend on their own results", _EXPORT) from None
    model.CopyFrom(onnx_ir.to_proto(read))


def _check(model: ModelProto, name: str) -> None:
    """Raise ModelError for what is not ONNX, or has constants that are not what they declare."""
    untyped = _with_stand_ins(model.graph)
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        # Most are ValidationError, not all.
        raise ModelError(f"{name} is not a valid ONNX model: {first_line(error)}", _EXPORT) from None
    for value, kind in untyped:
        value.type.CopyFrom(kind)
    for value in model.graph.initializer:
        if value.data_type not in TensorProto.DataType.values():
            raise ModelError(f'the constant "{value.name}" of {name} is of the unknown type {value.data_type}', _EXPORT)
        try:
            numpy_helper.to_array(value)
        except Exception as error:
            # numpy and onnx raise without a common base class.
            reason = f"{first_line(error)} (declared: {list(value.dims)})"
            raise ModelError(f'the constant "{value.name}" of {name} is damaged: {reason}', _EXPORT) from None


def _with_stand_ins(graph: GraphProto) -> list[tuple[ValueInfoProto, TypeProto]]:
    """Give what has no type or shape a stand-in, and return it with what it had.

    The checker wants them; those of outputs onnxruntime infers.
    """
    found = []
    for value in (*graph.input, *graph.output):
        tensor = value.type.tensor_type
        if not value.type.WhichOneof("value") or (value.type.HasField("tensor_type") and not tensor.HasField("shape")):
            before = TypeProto()
            before.CopyFrom(value.type)
            found.append((value, before))
            tensor.elem_type = tensor.elem_type or TensorProto.FLOAT
            tensor.shape.SetInParent()
    known = [value for value in graph.value_info if value.type.tensor_type.HasField("shape")]
    del graph.value_info[:]
    graph.value_info.extend(known)
    return found


def _modern(model: ModelProto, name: str) -> ModelProto:
    """Return the graph in an opset that int8 can be written in, without constants among its inputs."""
    _drop_defaults(model.graph)
    version = max((opset.version for opset in model.opset_import if not opset.domain), default=1)
    if version < _OLDEST:
        try:
            model = onnx.version_converter.convert_version(model, _OPSET)
        except Exception as error:
            # onnx's converter raises without a common base class.
            raise ModelError(
                f"{name} is of opset {version}, and cannot be brought to {_OPSET}: {first_line(error)}",
                f"export it again, in opset {_OLDEST} or later",
            ) from None
        _drop_defaults(model.graph)
        model.ir_version = max(model.ir_version, _IR)
    return model


def _drop_defaults(graph: GraphProto) -> None:
    """Leave only those inputs that the caller must feed; before IR version 4 every initializer was one as well."""
    known = {value.name for value in graph.initializer}
    kept = [value for value in graph.input if value.name not in known]
    del graph.input[:]
    graph.input.extend(kept)


def _open_negative(graph: GraphProto) -> None:
    """Leave open every dimension below zero: Paddle's way to write an open one, which onnxruntime takes as such."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                dim.Clear()


def _infer(model: ModelProto, name: str) -> None:
    try:
        shapes.infer(model)
    except Exception as error:
        # onnx raises InferenceError, or ValueError for types that it does not know.
        raise ModelError(f"the shapes of {name} cannot be inferred: {first_line(error)}", _EXPORT) from None


def _check_inputs(graph: GraphProto, name: str) -> None:
    if not graph.input:
        raise ModelError(f"{name} takes no input", "export the model with the data that it takes as its inputs")
    _check_tensors("input", graph.input, name)


def _check_tensors(kind: str, values: Iterable[ValueInfoProto], name: str) -> None:
    for value in values:
        if not value.type.HasField("tensor_type"):
            raise ModelError(
                f"the {kind} {value.name} of {name} is not a tensor", "export it to take and return tensors"
            )
        if not value.type.tensor_type.HasField("shape"):
            raise ModelError(
                f"the {kind} {value.name} of {name} has no shape", "export it with one; open dimensions may have names"
            )
        dims = value.type.tensor_type.shape.dim
        if any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in dims):
            shape = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "any" for dim in dims]
            raise ModelError(f"the {kind} {value.name} of {name} has no values: its shape is {shape}", _EXPORT)
