"""Measure single layers: each shape at each width as a small graph, as it would be shipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgekd import host, runtime
from edgekd.bench import runner
from edgekd.errors import ModelError, first_line
from edgekd.latency import Grid, Layer, Table, widths_of
from edgekd.recipe import Precision
from edgekd.runtime import Settings

_ROUNDS, _CALLS, _SECONDS = 40, 3, 0.15
_OPSET, _IR = 18, 8
VERSION = 1
"""Of what is measured and how: raised when tables would be others."""


@dataclass(frozen=True)
class Conditions:
    """How the layers are measured: what a session is opened by, the precision, and in which steps widths go."""

    settings: Settings
    precision: Precision
    block: int
    activations: Literal["uint8", "int8"] = "uint8"
    most: int = 5
    """How many widths of each side at most; pruning interpolates between them."""


def measure(layers: Mapping[str, Layer], conditions: Conditions) -> Table:
    """Time every distinct layer at its widths, batch 1. Raises TargetError, ModelError."""
    distinct = list(dict.fromkeys(layers.values()))
    return Table(
        machine=host.this().name,
        onnxruntime=ort.__version__,
        precision=conditions.precision,
        grids=tuple(_grid(layer, conditions) for layer in distinct),
        layers={path: distinct.index(layer) for path, layer in layers.items()},
    )


def _grid(layer: Layer, conditions: Conditions) -> Grid:
    """Time one layer at all widths by turns, less what a graph that does nothing takes."""
    inputs, outputs = _sides(layer, conditions)
    with TemporaryDirectory() as folder:
        graphs = [_nothing(), *(graph_of(*widths, layer, conditions) for widths in _pairs(layer, inputs, outputs))]
        sessions = []
        for number, graph in enumerate(graphs):
            file = Path(folder) / f"{number}.onnx"
            onnx.save(graph, file)
            sessions.append(runtime.open_session(file, conditions.settings))
        empty, *times = _medians(sessions, conditions.settings)
    net = np.maximum(0.0, 1000 * (np.array(times) - empty))
    rows = net.reshape(len(inputs) if layer.kind != "depthwise" else 1, -1)
    return Grid(
        layer=layer,
        inputs=inputs if layer.kind != "depthwise" else (layer.inputs,),
        outputs=outputs,
        microseconds=tuple(tuple(round(float(value), 3) for value in row) for row in rows),
    )


def _medians(sessions: list[ort.InferenceSession], settings: Settings) -> list[float]:
    """Return the milliseconds of each; fewer rounds where one is slow."""

    def timed(rounds: int, warmup: int) -> list[float]:
        spec = runner.Spec([], rounds, warmup, _CALLS, settings.threads, list(settings.providers), settings.entries)
        return [float(np.median(calls)) for calls in runner.time_sessions(sessions, spec)]

    try:
        once = sum(timed(1, 1)) * (_CALLS + 1) / 1000
        return timed(int(np.clip(_SECONDS * len(sessions) / max(once, 1e-9), 3, _ROUNDS)), 2)
    except Exception as error:
        # onnxruntime's exceptions share no base class but this one.
        raise ModelError(
            f"a single layer cannot be measured here: {first_line(error)}",
            "take prune.keep_macs instead",
        ) from None


def _sides(layer: Layer, conditions: Conditions) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if layer.groups > 1:
        # Whole groups go, and what enters goes with what leaves.
        leaving = layer.outputs // layer.groups
        counts = widths_of(layer.groups, max(1, -(-conditions.block // leaving)), conditions.most)
        return (layer.inputs,), tuple(count * leaving for count in counts)
    block, most = conditions.block, conditions.most
    return widths_of(layer.inputs, block, most), widths_of(layer.outputs, block, most)


def _pairs(layer: Layer, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    if layer.kind == "depthwise":
        yield from ((width, width) for width in outputs)
    elif layer.groups > 1:
        yield from ((width * layer.inputs // layer.outputs, width) for width in outputs)
    else:
        yield from ((width, other) for width in inputs for other in outputs)


def graph_of(inputs: int, outputs: int, layer: Layer, conditions: Conditions) -> ModelProto:
    """Return one layer with ReLU as a graph.

    Pixels stand last at both ends, as between the layers of an optimised int8 graph: onnxruntime then runs the layer
    alone, without the transposes that a graph of one layer in ONNX's own order would pay for.
    """
    weights, operator, attributes = _operator(inputs, outputs, layer)
    linear = layer.kind == "linear"
    entering, leaving = ([1], [1]) if linear else ([1, *layer.size], [1, *layer.leaving])
    parts = _int8 if conditions.precision == "int8" else _floating
    nodes, constants, kind = parts(operator, attributes, weights, linear, conditions)
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", kind, [*entering, inputs])],
        [helper.make_tensor_value_info("y", kind, [*leaving, outputs])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)


def _operator(inputs: int, outputs: int, layer: Layer) -> tuple[NDArray[np.float32], str, dict[str, Any]]:
    generator = np.random.default_rng(0)
    if layer.kind == "linear":
        return generator.standard_normal((outputs, inputs)).astype(np.float32), "Gemm", {"transB": 1}
    groups = 1 if layer.groups == 1 else outputs * layer.groups // layer.outputs
    groups = inputs if layer.kind == "depthwise" else groups
    weights = generator.standard_normal((outputs, inputs // groups, *layer.kernel)).astype(np.float32)
    attributes = {"kernel_shape": layer.kernel, "strides": layer.stride, "dilations": layer.dilation, "group": groups}
    return weights, "Conv", {**attributes, "pads": (*layer.padding, *layer.padding)}


def _int8(
    operator: str, attributes: dict[str, Any], weights: NDArray[np.float32], linear: bool, conditions: Conditions
) -> tuple[list[NodeProto], dict[str, NDArray[np.generic]], int]:
    scale = np.abs(weights).reshape(len(weights), -1).max(1) / 127
    grid = np.uint8 if conditions.activations == "uint8" else np.int8
    constants = {
        "s": np.float32(0.02), "z": grid(0),
        "w": np.round(weights / scale.reshape(-1, *[1] * (weights.ndim - 1))).astype(np.int8),
        "ws": scale.astype(np.float32), "wz": np.zeros(len(scale), np.int8),
        "b": np.zeros(len(scale), np.int32), "bs": (0.02 * scale).astype(np.float32),
        "bz": np.zeros(len(scale), np.int32),
    }  # fmt: skip
    source, result = ("x", "y") if linear else ("x4", "y4")
    nodes = [
        helper.make_node("DequantizeLinear", [source, "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bf"], axis=0),
        helper.make_node(operator, ["xf", "wf", "bf"], ["yf"], **attributes),
        helper.make_node("Relu", ["yf"], ["yr"]),
        helper.make_node("QuantizeLinear", ["yr", "s", "z"], [result]),
    ]
    kind = TensorProto.UINT8 if conditions.activations == "uint8" else TensorProto.INT8
    return _pixels_last(nodes, linear), {name: np.asarray(value) for name, value in constants.items()}, kind


def _floating(
    operator: str, attributes: dict[str, Any], weights: NDArray[np.float32], linear: bool, conditions: Conditions
) -> tuple[list[NodeProto], dict[str, NDArray[np.generic]], int]:
    half = conditions.precision == "fp16"
    kind = np.float16 if half else np.float32
    constants = {"w": weights.astype(kind), "b": np.zeros(len(weights), kind)}
    source, result = ("x", "y") if linear else ("x4", "y4")
    nodes = [
        helper.make_node(operator, [source, "w", "b"], ["yf"], **attributes),
        helper.make_node("Relu", ["yf"], [result]),
    ]
    return _pixels_last(nodes, linear), dict(constants), TensorProto.FLOAT16 if half else TensorProto.FLOAT


def _pixels_last(nodes: list[NodeProto], linear: bool) -> list[NodeProto]:
    if linear:
        return nodes
    first = helper.make_node("Transpose", ["x"], ["x4"], perm=(0, 3, 1, 2))
    last = helper.make_node("Transpose", ["y4"], ["y"], perm=(0, 2, 3, 1))
    return [first, *nodes, last]


def _nothing() -> ModelProto:
    """Return a graph of one free operator: what calling a session costs."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "nothing",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
