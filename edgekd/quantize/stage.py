"""The stage `quantize`: candidates for shipping by the target's policy. The pipeline measures and picks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from edgekd import front
from edgekd.errors import ModelError
from edgekd.quantize import qdq, rounding, saturation, settled, trial
from edgekd.quantize.calibrate import grids_of
from edgekd.quantize.compact import compact
from edgekd.quantize.correction import correct_biases
from edgekd.quantize.entry import Entry
from edgekd.quantize.feed import Feed
from edgekd.quantize.grid import Grid, has_dead_channel, weight_scales
from edgekd.quantize.observing import Observed, load
from edgekd.quantize.settled import Settled
from edgekd.quantize.wiring import Wiring, copied
from edgekd.recipe import Precision, Quantize
from edgekd.run import Progress, Run
from edgekd.stage import Metrics, stage
from edgekd.target import Int8

FLOAT = "float.onnx"
INT8 = "int8.onnx"
FP16 = "fp16.onnx"
_GAIN = 0.05
"""Decibels that a repair must gain to be kept under `auto`: less is chance."""


@stage(writes="candidates", version=3, tools=("onnx", "onnx-ir", "onnxruntime", "numpy"))
def convert(out: Path, run: Run, graph: Path, samples: Path, entry: Entry | None, precision: Precision) -> Metrics:
    """Write float.onnx, and fp16.onnx beside it where that is asked for.

    `entry` says how the samples are fed; None: as pixels. Raises ModelError for a graph that float16 cannot be made of.
    """
    out.mkdir()
    model = onnx.load(graph)
    onnx.save(model, out / FLOAT)
    if precision != "fp16":
        return {"candidates": [FLOAT]}
    # Imported late: its graph library brings sympy, 0.2 s that int8 has no use for.
    from edgekd.quantize.half import to_half  # noqa: PLC0415

    fed = entry or Entry(kind="pixels", name=front.IMAGE)
    half = to_half(model, fed.feed(samples))
    onnx.save(half.model, out / FP16)
    return {"candidates": [FP16, FLOAT], "beyond_float16": list(half.beyond)}


@stage(writes="candidates", version=5, tools=("onnx", "onnxruntime", "numpy"))
def quantize(
    out: Path,
    run: Run,
    graph: Path,
    repaired: Path,
    observed: Path,
    samples: Path,
    policy: Int8,
    config: Quantize,
    in_float: tuple[str, ...],
    kernels: str,
) -> Metrics:
    """Write int8.onnx, and float.onnx beside it: the graph as it came.

    `repaired` and `observed` are of the stages `repair` and `calibrate`; the nodes of `in_float` stay in float.
    Raises ModelError where nothing could be quantized.
    """
    out.mkdir()
    given = onnx.load(graph)
    onnx.save(given, out / FLOAT)
    found = settled.load(repaired)
    seen = load(observed)
    parts = _Parts(found, seen, grids_of(seen, found, policy, config), policy, frozenset(in_float) | found.in_float)
    feed = found.entry.feed(samples)
    rounded = _rounded(parts, config, feed, run)
    finished = finish(rounded.quantized, found, given)
    onnx.save(finished, out / INT8)
    few = feed.few(saturation.IMAGES, rounded.model)
    clipped = saturation.count(rounded.model, few, parts.grids, rounded.scales, policy, parts.in_float)
    saturated = {"sums": clipped.sums, "clipped": clipped.clipped, "layers": list(clipped.layers[:5])}
    return {
        "candidates": [INT8, FLOAT],
        "policy": policy.model_dump(mode="json"),
        "calibrator": config.calibrator,
        "images": seen.images,
        "saturation": saturated,
        "in_float": sorted(in_float),
        "rounding": rounded.done,
        "sqnr": rounded.gains[rounded.done[-1] if rounded.done else "nearest"],
        "rounding_sqnr": rounded.gains,
    }


@dataclass(frozen=True)
class _Parts:
    found: Settled
    observed: Observed
    grids: dict[str, Grid]
    policy: Int8
    in_float: frozenset[str]


@dataclass(frozen=True)
class _Rounded:
    """A float graph with its weights and biases as they will be rounded, and what became of it."""

    model: ModelProto
    scales: dict[str, NDArray[np.float32]]
    quantized: ModelProto
    done: list[str]
    gains: dict[str, float]
    """The signal-to-noise ratio after each step, in dB."""


def _rounded(parts: _Parts, config: Quantize, feed: Feed, run: Run) -> _Rounded:
    """Round to nearest, then by learned rounding where that is asked for, then correct the biases where that helps."""
    few = feed.few(trial.IMAGES, parts.found.model)
    reference = trial.answers(parts.found.model, few)

    def tried(model: ModelProto, scales: dict[str, NDArray[np.float32]]) -> tuple[ModelProto, float]:
        quantized = qdq.quantized(model, parts.grids, scales, parts.policy, parts.in_float)
        return quantized, trial.sqnr(reference, trial.answers(quantized, few))

    model = copied(parts.found.model)
    scales = _of_dead_channels(model, parts)
    before: dict[str, NDArray[np.float32]] = {}
    quantized, best = tried(model, scales)
    gains, done = {"nearest": best}, []
    if config.rounding == "optq" and parts.policy.weights == "int8":

        def show(count: int, total: int) -> None:
            run.show(Progress("quantize", count, total, "learned rounding"))

        learned = rounding.learn(parts.found.model, feed, parts.grids, parts.policy, parts.in_float, show)
        model = _with_weights(parts.found.model, learned.weights)
        scales, before = {**scales, **learned.scales}, dict(learned.before)
        quantized, best = tried(model, scales)
        gains["optq"] = best
        done.append("optq")
    if config.correct_bias is not False and parts.policy.weights == "int8":
        corrected = copied(model)
        correct_biases(corrected, parts.observed.patches, parts.policy, parts.in_float, before, scales)
        shifted, gains["bias corrected"] = tried(corrected, scales)
        if config.correct_bias is True or gains["bias corrected"] > best + _GAIN:
            model, quantized = corrected, shifted
            done.append("bias corrected")
    return _Rounded(model, scales, quantized, done, gains)


def _of_dead_channels(model: ModelProto, parts: _Parts) -> dict[str, NDArray[np.float32]]:
    """Return the scales of weights with channels that are all zero, whose bias onnxruntime's own scale would lose."""
    wiring, found = Wiring(model), {}
    for node in model.graph.node:
        weight = wiring.weight(node)
        if weight is not None and parts.policy.weights == "int8" and has_dead_channel(weight):
            found[node.input[1]] = weight_scales(weight, parts.policy)
    return found


def _with_weights(model: ModelProto, weights: Mapping[str, NDArray[np.float32]]) -> ModelProto:
    wiring = Wiring(copied(model))
    for name, weight in weights.items():
        wiring.set(name, weight)
    return wiring.model


def finish(quantized: ModelProto, found: Settled, graph: ModelProto) -> ModelProto:
    """Return the QDQ graph as it is shipped: pixels enter, names are short, versions are those of the float graph."""
    if found.entry.kind == "absorbed":
        front.pixels_enter(quantized)
    compact(quantized)
    quantized.ir_version = graph.ir_version
    quantized.producer_name, quantized.producer_version = "edgekd", ""
    # onnxruntime's quantizer adds the domains of its own operators, of which a QDQ graph has none.
    used = {node.domain for node in quantized.graph.node} | {""}
    kept = [opset for opset in quantized.opset_import if opset.domain in used or opset.domain == "ai.onnx"]
    del quantized.opset_import[:]
    quantized.opset_import.extend(kept)
    if not any(node.op_type == "QuantizeLinear" for node in quantized.graph.node):
        raise ModelError(
            "the graph has no operator that can be quantized", "ship it in float: --set quantize.precision=float"
        )
    onnx.checker.check_model(quantized, full_check=True)
    return quantized
