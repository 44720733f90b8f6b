"""A node of an ONNX graph as training reads it: its attributes and its constant inputs, under the graph's opset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from edgekd.errors import ModelError

LEAVE_OUT = "leave out [finetune]"
_STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Node:
    """One operator: what it reads and makes by name, its attributes by theirs."""

    name: str
    kind: str
    """Its operator; one of another domain is named with it."""
    opset: int
    inputs: tuple[str, ...]
    """An optional input that is left out is ""; none ends the tuple."""
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    constants: Mapping[str, NDArray[Any]]
    """The initializers among its inputs."""

    @property
    def output(self) -> str:
        """The first output, the only one that is computed."""
        return self.outputs[0]

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute, or ONNX's default."""
        return self.attributes.get(name, default)

    def constant(self, position: int) -> NDArray[Any] | None:
        """Return the value of an input; None where it is left out. Raises ModelError where it is computed."""
        name = self.inputs[position] if position < len(self.inputs) else ""
        if name and name not in self.constants:
            raise self.refused(f'its input "{name}" is computed, and must be an initializer')
        return self.constants[name] if name else None

    def refused(self, why: str, hint: str = LEAVE_OUT) -> ModelError:
        """Return the error that names this node."""
        return ModelError(f'fine-tuning cannot train the {self.kind} "{self.name or self.output}": {why}', hint)


def nodes_of(model: ModelProto, constants: Mapping[str, NDArray[Any]]) -> list[Node]:
    """Return the nodes of a graph in its order; `constants` are its initializers by name."""
    opset = max((each.version for each in model.opset_import if each.domain in _STANDARD), default=1)
    return [_node(node, opset, constants) for node in model.graph.node]


def _node(node: NodeProto, opset: int, constants: Mapping[str, NDArray[Any]]) -> Node:
    inputs = tuple(node.input)
    while inputs and not inputs[-1]:
        inputs = inputs[:-1]
    return Node(
        name=node.name,
        kind=node.op_type if node.domain in _STANDARD else f"{node.domain}.{node.op_type}",
        opset=opset,
        inputs=inputs,
        outputs=tuple(node.output),
        attributes={each.name: onnx.helper.get_attribute_value(each) for each in node.attribute},
        constants={name: constants[name] for name in inputs if name in constants},
    )


def type_name(kind: int) -> str:
    """Return how ONNX calls an element type."""
    return str(onnx.TensorProto.DataType.Name(kind))
