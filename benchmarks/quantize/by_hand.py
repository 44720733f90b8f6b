"""Plain onnxruntime on a file of others, as its documentation says, and what a file answers. No torch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from graphs import session_of
from numpy.typing import NDArray
from onnx import ModelProto, version_converter
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

Answers = dict[str, NDArray[np.float32]]


class Rows(CalibrationDataReader):  # type: ignore[misc]
    """Feeds onnxruntime's calibrators one row at a time."""

    def __init__(self, name: str, inputs: NDArray[np.float32]) -> None:
        self._rows: Iterator[dict[str, Any]] = ({name: inputs[at : at + 1]} for at in range(len(inputs)))

    def get_next(self) -> dict[str, Any] | None:
        """Return the next row, or None at the end."""
        return next(self._rows, None)


def taken(model: ModelProto) -> str:
    """Return the name of the one input that is no constant."""
    constants = {value.name for value in model.graph.initializer}
    return next(value.name for value in model.graph.input if value.name not in constants)


def prepared(file: Path, shape: Sequence[int], out: Path) -> None:
    """Write the file in opset 17 or later, its sides fixed, shapes inferred and constants folded."""
    model = onnx.load(file)
    if max(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")) < 17:
        model = version_converter.convert_version(model, 17)
    name_of_input = taken(model)
    value = next(each for each in model.graph.input if each.name == name_of_input)
    for dim, side in zip(value.type.tensor_type.shape.dim, (1, *shape), strict=True):
        dim.Clear()
        dim.dim_value = side
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    with tempfile.TemporaryDirectory() as name:
        fixed = Path(name) / "fixed.onnx"
        onnx.save(model, fixed)
        try:
            quant_pre_process(str(fixed), str(out))
        except Exception:
            # onnxruntime's symbolic shapes know fewer operators than onnx's own.
            quant_pre_process(str(fixed), str(out), skip_symbolic_shape=True)


def quantized(source: Path, inputs: NDArray[np.float32], out: Path, kinds: Sequence[str] = (), bits: int = 8) -> None:
    """Write QDQ with uint8 activations (or uint16), int8 weights per channel, min-max; all kinds of nodes, or these."""
    model = onnx.load(source)
    activations = QuantType.QUInt8 if bits == 8 else QuantType.QUInt16
    quantize_static(
        str(source), str(out), Rows(taken(model), inputs), quant_format=QuantFormat.QDQ, activation_type=activations,
        weight_type=QuantType.QInt8, per_channel=True, calibrate_method=CalibrationMethod.MinMax,
        op_types_to_quantize=list(kinds) or None,
    )  # fmt: skip


def by_default(source: Path, inputs: NDArray[np.float32], out: Path) -> None:
    """Write what `quantize_static(model, out, reader)` makes."""
    quantize_static(str(source), str(out), Rows(taken(onnx.load(source)), inputs))


def answered(file: Path, inputs: NDArray[np.float32]) -> Answers:
    """Return every output for the inputs, asked one row at a time; an output without a batch counts as one row."""
    session = session_of(file)
    given = session.get_inputs()[0].name
    names = [value.name for value in session.get_outputs()]
    parts = [session.run(None, {given: inputs[at : at + 1]}) for at in range(len(inputs))]
    return {name: np.concatenate([part[at] for part in parts]) for at, name in enumerate(names)}
