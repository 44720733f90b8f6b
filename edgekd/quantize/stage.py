"""The stage `quantize`: candidates for shipping by the target's policy. The pipeline measures and picks."""

from __future__ import annotations

import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from edgekd import front, runtime
from edgekd.errors import ModelError
from edgekd.front import Absorption
from edgekd.quantize.calibration import Reader
from edgekd.quantize.compact import compact
from edgekd.quantize.half import to_half
from edgekd.run import Run
from edgekd.store import Metrics, stage
from edgekd.target import Int8
from edgekd.workload import arrays
from edgekd.workload.dataset import Images

FLOAT = "float.onnx"
INT8 = "int8.onnx"
FP16 = "fp16.onnx"
Precision = Literal["int8", "fp16", "float"]

_TYPES = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
_EFFECT_IMAGES = 256


@stage(writes="candidates", version=1, tools=("onnx", "onnxruntime", "numpy"))
def quantize(out: Path, run: Run, graph: Path, samples: Path, policy: Int8 | None, precision: Precision) -> Metrics:
    """Write float.onnx, and int8.onnx or fp16.onnx beside it where the target wants that.

    `samples` is the calibration split; `policy` the target's types. Raises ModelError where nothing can be quantized.
    """
    out.mkdir()
    model = onnx.load(graph)
    onnx.save(model, out / FLOAT)
    metrics: Metrics = {"candidates": [FLOAT]}
    if precision == "fp16":
        onnx.save(to_half(model), out / FP16)
        metrics["candidates"] = [FP16, FLOAT]
    if precision == "int8" and policy is not None:
        images = arrays.load(samples).images
        metrics |= _int8(model, images, policy, out / INT8)
        metrics["candidates"] = [INT8, FLOAT]
    return metrics


def _int8(model: ModelProto, images: Images, policy: Int8, out: Path) -> Metrics:
    shape = front.shape_of(model)
    whole = ModelProto()
    whole.CopyFrom(model)
    absorption = front.absorb(model)
    with TemporaryDirectory(dir=out.parent) as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        # The quantizer needs shapes to find what is a float tensor.
        onnx.save(onnx.shape_inference.infer_shapes(model), source)
        if absorption is None:
            reader = Reader(images, front.IMAGE, lambda batch: batch)
        else:
            fed = absorption
            reader = Reader(images, model.graph.input[0].name, lambda batch: front.as_input(batch, fed))
        _quantize_static(source, target, reader, policy, absorption, [node.name for node in front.nodes_of(model)])
        metrics = _effect(whole, source, images, absorption, Path(folder))
        quantized = onnx.load(target)
    if absorption is not None:
        front.pixels_enter(quantized, shape)
    compact(quantized)
    quantized.ir_version = model.ir_version
    quantized.producer_name, quantized.producer_version = "edgekd", ""
    # onnxruntime's quantizer adds the domains of its own operators, of which a QDQ graph has none.
    kept = [opset for opset in quantized.opset_import if opset.domain in ("", "ai.onnx")]
    del quantized.opset_import[:]
    quantized.opset_import.extend(kept)
    onnx.checker.check_model(quantized, full_check=True)
    onnx.save(quantized, out)
    count = sum(node.op_type == "QuantizeLinear" for node in quantized.graph.node)
    if not count:
        raise ModelError("the graph has no operator that can be quantized", 'set quantize.precision = "float"')
    return metrics


def _quantize_static(
    source: Path, target: Path, reader: Reader, policy: Int8, absorption: Absorption | None, kept: list[str]
) -> None:
    extra: dict[str, Any] = {}
    if absorption is not None:
        # The pixels' own grid: they enter the first integer convolution as they are.
        entry = {
            "scale": np.array(absorption.scale, np.float32),
            "zero_point": np.array(absorption.zero_point, np.uint8),
            "quant_type": QuantType.QUInt8,
        }
        extra["TensorQuantOverrides"] = {front.ABSORBED: [entry]}
    root = logging.getLogger()
    level = root.level
    # It advises on the root logger to run its own pre-processing, which export and simplify have replaced.
    root.setLevel(logging.ERROR)
    try:
        quantize_static(
            str(source),
            str(target),
            reader,
            quant_format=QuantFormat.QDQ,
            activation_type=_TYPES[policy.activations],
            weight_type=_TYPES[policy.weights],
            per_channel=policy.per_channel,
            reduce_range=policy.reduce_range,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=kept,
            extra_options=extra,
        )
    finally:
        root.setLevel(level)


def _effect(whole: ModelProto, absorbed: Path, images: Images, absorption: Absorption | None, folder: Path) -> Metrics:
    """Measure what absorbing the front changes in float: nothing but rounding where the fold is exact."""
    if absorption is None:
        return {"front": "float", "front_exact": True, "front_agreement": 1.0}
    before = folder / "whole.onnx"
    onnx.save(whole, before)
    few = images[:: max(1, len(images) // _EFFECT_IMAGES)]
    settings = runtime.Settings()
    reference = runtime.run(runtime.open_session(before, settings), few)
    folded = runtime.run(runtime.open_session(absorbed, settings), front.as_input(few, absorption))
    return {
        "front": "absorbed",
        "front_exact": absorption.exact,
        "front_agreement": float((reference.argmax(1) == folded.argmax(1)).mean()),
    }
