"""Make a quantized file small without changing what it computes: short names, one copy of equal constants."""

from __future__ import annotations

from onnx import ModelProto, NodeProto, TensorProto

from edgekd import constants

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def compact(model: ModelProto) -> None:
    """Rewrite in place. A quarter of a small int8 file is names; inputs and outputs keep theirs."""
    graph = model.graph
    if constants.has_subgraph(graph):
        return  # a subgraph reads names of the outer graph
    _share_constants(model)
    del graph.value_info[:]
    del model.metadata_props[:]
    kept = {value.name for value in (*graph.input, *graph.output)} | {""}
    short = {name: name for name in kept}
    for node in graph.node:
        node.name = ""
        node.doc_string = ""
        del node.metadata_props[:]
        _drop_defaults(node)
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name not in short:
                    short[name] = _short(len(short) - len(kept), kept)
                names[index] = short[name]
    for value in graph.initializer:
        value.name = short[value.name]
        value.doc_string = ""


def _drop_defaults(node: NodeProto) -> None:
    """Leave out attributes that say what ONNX takes them for anyway."""
    defaults = {"dilations": {1}, "strides": {1}, "pads": {0}}
    kept = []
    for each in node.attribute:
        same = each.name in defaults and set(each.ints) == defaults[each.name]
        if node.op_type in {"Conv", "MaxPool"} and (same or (each.name == "group" and each.i == 1)):
            continue
        if each.name == "auto_pad" and each.s == b"NOTSET":
            continue
        each.doc_string = ""
        kept.append(each)
    del node.attribute[:]
    node.attribute.extend(kept)


def _share_constants(model: ModelProto) -> None:
    """Let equal initializers be one, and drop those that nobody reads."""
    graph = model.graph
    first: dict[bytes, str] = {}
    same: dict[str, str] = {}
    for value in graph.initializer:
        same[value.name] = first.setdefault(_content(value), value.name)
    # What the caller gets keeps its own name.
    same |= {value.name: value.name for value in graph.output}
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    constants.drop_unread(graph)


def _content(value: TensorProto) -> bytes:
    anonymous = TensorProto()
    anonymous.CopyFrom(value)
    anonymous.name = ""
    anonymous.doc_string = ""
    return bytes(anonymous.SerializeToString(deterministic=True))


def _short(number: int, taken: set[str]) -> str:
    """Return the number in base 36, led by a letter so that it is an identifier."""
    digits = ""
    while True:
        digits = _DIGITS[number % 36] + digits
        number //= 36
        if not number:
            break
    name = f"t{digits}"
    return name if name not in taken else f"{name}_"
