"""onnxruntime's own quantizer, told every scale: a standard QDQ graph comes out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto
from onnxruntime.quantization import QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from edgekd.errors import ModelError, first_line
from edgekd.quantize.grid import Grid
from edgekd.quantize.wiring import copied
from edgekd.target import Int8

_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
_NORMS = {"BatchNormalization", "LayerNormalization", "InstanceNormalization"}
"""They would run in float between two roundings: onnxruntime's CPU provider has no integers for them."""
KINDS = (frozenset(QDQRegistry) | frozenset(QLinearOpsRegistry)) - _NORMS
"""The operators that are quantized."""
MOVES = frozenset({"MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze"})
"""Their values are those of their input, and so is their grid."""
ACTIVATIONS = frozenset({"Relu", "Clip"})
"""What they read is rounded to the grid of what they make."""


def quantized(
    model: ModelProto,
    grids: Mapping[str, Grid],
    scales: Mapping[str, NDArray[np.float32]],
    policy: Int8,
    in_float: frozenset[str] = frozenset(),
    only: frozenset[str] = frozenset(),
) -> ModelProto:
    """Return the QDQ graph. `model` carries its shapes and is not changed.

    `grids` are of the activations; `scales` of the weights that were rounded beforehand, a value per output channel,
    along the weight's first axis. `in_float` names nodes that stay as they are; `only`, if any, those that do not.
    """
    overrides: dict[str, list[dict[str, Any]]] = {name: [_entry(grid)] for name, grid in grids.items()}
    for name, given in scales.items():
        overrides[name] = [_weight_entry(scale, policy) for scale in (given if policy.per_channel else given[:1])]
        if policy.per_channel:
            overrides[name][0]["axis"] = 0
    overrides |= {name: [{"quant_type": _TYPES[policy.weights]}] for name in _stacks(model)}
    ends = {name: _data(grid) for name, grid in _all_ranges(model, grids).items()}
    known = {value.name for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    known |= {value.name for value in model.graph.initializer}
    extra = {
        "TensorQuantOverrides": {name: entry for name, entry in overrides.items() if name in known},
        "ActivationSymmetric": policy.symmetric,
    }
    with _quiet():
        quantizer = QDQQuantizer(
            _working(model),
            policy.per_channel,
            policy.reduce_range,
            _TYPES[policy.weights],
            _TYPES[policy.activations],
            TensorsData(CalibrationMethod.MinMax, ends),
            sorted(only),
            sorted(in_float),
            sorted(KINDS),
            extra,
        )
        try:
            result: ModelProto = quantizer.quantize_model()
            quantizer.model.topological_sort()
        except Exception as error:
            # onnxruntime's quantizer raises whatever Python does where it does not know a graph's form.
            raise ModelError(
                f"onnxruntime's quantizer does not take this graph: {first_line(error)}",
                "ship it in float, --set quantize.precision=float, and report the model",
            ) from None
    del result.graph.output[:]
    result.graph.output.extend(model.graph.output)
    return result


def _entry(grid: Grid) -> dict[str, Any]:
    # By the grid itself: absorbed pixels are uint8 under any policy.
    integer, kind = (np.uint8, QuantType.QUInt8) if grid.least == 0 else (np.int8, QuantType.QInt8)
    return {
        "scale": np.array(grid.scale, np.float32),
        "zero_point": np.array(grid.zero_point, integer),
        "quant_type": kind,
    }


def _weight_entry(scale: np.float32, policy: Int8) -> dict[str, Any]:
    return {
        "scale": np.array(scale, np.float32),
        "zero_point": np.array(0, np.int8),
        "quant_type": _TYPES[policy.weights],
    }


def _stacks(model: ModelProto) -> set[str]:
    """Return the constants with more than two axes that a MatMul multiplies by: they get one scale.

    Per channel the quantizer takes axis 1, which in [stack, inputs, outputs] are the inputs. No kernel sums integers of
    such scales: onnxruntime up to 1.31 opens the file and fails when it runs it, 1.32 multiplies in float.
    """
    axes = {value.name: len(value.dims) for value in model.graph.initializer}
    return {node.input[1] for node in model.graph.node if node.op_type == "MatMul" and axes.get(node.input[1], 0) > 2}


def _all_ranges(model: ModelProto, grids: Mapping[str, Grid]) -> dict[str, Grid]:
    """Return a grid for every tensor that the quantizer may ask for.

    What moves values takes its input's; what an activation alone reads takes what that activation makes.
    """
    found = dict(grids)
    for node in model.graph.node:
        if node.op_type in MOVES and node.input[0] in found:
            found.setdefault(node.output[0], found[node.input[0]])
    for node in reversed(model.graph.node):
        if node.op_type in MOVES | ACTIVATIONS and node.output[0] in found:
            found.setdefault(node.input[0], found[node.output[0]])
    return found


def _data(grid: Grid) -> Any:
    low, high = ((level - grid.zero_point) * grid.scale for level in (grid.least, grid.most))
    return TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))


def _working(model: ModelProto) -> ModelProto:
    """Return a copy for the quantizer, without the outputs that are inputs: it would rename them (onnxruntime 1.32)."""
    working = copied(model)
    inputs = {value.name for value in model.graph.input}
    del working.graph.output[:]
    working.graph.output.extend(value for value in model.graph.output if value.name not in inputs)
    # Says that shapes are inferred: otherwise the quantizer writes the model to a file to infer them again.
    working.metadata_props.append(onnx.StringStringEntryProto(key="onnx.infer", value="onnxruntime.quant"))
    return working


@contextmanager
def _quiet() -> Iterator[None]:
    """Its advice goes to the root logger: to run its pre-processing, which export and simplify have replaced."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
