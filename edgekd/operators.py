"""Which operators really run, after onnxruntime's own optimisation of the graph."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from edgekd import runtime
from edgekd.runtime import Settings

_INTEGER = {"QLinearConv", "QLinearAdd", "QLinearMul", "QGemm", "QLinearMatMul", "QLinearGlobalAveragePool"}
_INTEGER |= {"QLinearAveragePool", "QLinearConcat", "QLinearLeakyRelu", "MaxPool"}
_MOVES = {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Slice", "Split", "Identity", "Pad"}
_ENDS = {"QuantizeLinear", "DequantizeLinear"}


def that_run(model: Path, settings: Settings) -> dict[str, int]:
    """Return the operators of the optimised graph with their counts, sorted by name."""
    with TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        runtime.open_session(model, settings, optimized)
        graph = onnx.load(optimized).graph
    return dict(sorted(Counter(node.op_type for node in graph.node).items()))


def in_float(operators: dict[str, int]) -> dict[str, int]:
    """Return those that compute in float; conversions at the ends and mere moves do not."""
    return {name: count for name, count in operators.items() if name not in _INTEGER | _MOVES | _ENDS}


def is_closed_integer(operators: dict[str, int]) -> bool:
    """Whether integers go all the way from the pixels to the logits: one conversion, at the very end."""
    conversions = operators.get("DequantizeLinear", 0)
    return not in_float(operators) and not operators.get("QuantizeLinear", 0) and conversions == 1
