"""The stage `repair`: what is done to a float graph before its ranges are observed and its weights rounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from edgekd import runtime
from edgekd.quantize import equalisation, qdq, settled, trial
from edgekd.quantize.calibrate import COUNTED, grids_of
from edgekd.quantize.entry import Entry
from edgekd.quantize.feed import Feed
from edgekd.quantize.observing import observe, tensor_session
from edgekd.quantize.settled import Settled
from edgekd.quantize.trial import Answers
from edgekd.quantize.wiring import Wiring, copied
from edgekd.recipe import Quantize
from edgekd.run import Run
from edgekd.store import Metrics, stage
from edgekd.target import Int8

_DEVIATIONS = 3.0
_OBSERVED = 32
"""Images that ranges come from while repairs are tried."""
_GAIN = 0.1
"""Decibels that a repair must gain to be kept under `auto`: less is chance."""


@stage(writes="repaired", version=5, tools=("onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy"))
def repair(
    out: Path, run: Run, graph: Path, samples: Path, entry: Entry | None, policy: Int8, config: Quantize, kernels: str
) -> Metrics:
    """Write the float graph settled, its front absorbed, equalised and with high biases absorbed where that helps.

    What helps is tried on a few calibration images: the signal-to-noise ratio of the int8 answers against those of
    the float graph as it came. Raises ModelError for a graph that cannot be quantized or does not take the samples.
    """
    model = onnx.load(graph)
    start = settled.settled(model, entry)
    feed = start.entry.feed(samples).few(trial.IMAGES, start.model)
    start = settled.kept_in_float(start, feed, config.in_float)
    reference = _reference(model, start, feed, samples)
    kept = {"joins": [join.model_dump() for join in start.kept.joins], "float_around_joins": list(start.kept.around)}
    metrics: Metrics = {**_front(start, feed, reference), **kept, "float_by_name": list(start.kept.named)}
    if config.equalise is False and config.absorb_bias is False:
        start.save(out)
        return {**metrics, "repairs": []}
    tried: list[tuple[str, Settled]] = [("none", start)]
    pairs = 0
    if config.equalise is not False:
        found = _copy(start)
        pairs = equalisation.equalise(found.model)
        if pairs:
            tried.append(("equalised", found))
    if config.absorb_bias is not False:
        found = _copy(tried[-1][1])
        if equalisation.absorb_high_bias(found.model, _channel_lows(found, feed)):
            tried.append(("high biases absorbed", found))
    gains = {name: _sqnr(each, feed, reference, policy, config) for name, each in tried} if len(tried) > 1 else {}
    chosen = tried[_chosen([gains.get(name, 0.0) for name, _ in tried], [name for name, _ in tried], config)]
    names = [name for name, _ in tried[1:]]
    chosen[1].save(out)
    done = names[: names.index(chosen[0]) + 1] if chosen[0] in names else []
    return {**metrics, "pairs": pairs, "repairs": done, "repairs_sqnr": gains}


def _chosen(sqnrs: list[float], names: list[str], config: Quantize) -> int:
    """Return which of the tried graphs is kept: what was asked for, else the best, and the least changed of equals."""
    asked = {"equalised": config.equalise, "high biases absorbed": config.absorb_bias}
    forced = [index for index, name in enumerate(names) if asked.get(name) is True]
    best = forced[-1] if forced else 0
    for index in range(best + 1, len(names)):
        if sqnrs[index] > sqnrs[best] + _GAIN:
            best = index
    return best


def _reference(model: ModelProto, start: Settled, feed: Feed, samples: Path) -> Answers:
    """Return the answers of the graph as it came, which takes the pixels themselves where its front is absorbed."""
    if start.entry.kind != "absorbed":
        return trial.answers(model, feed)
    name = model.graph.input[0].name
    return trial.answers(model, Entry(kind="pixels", name=name).feed(samples).few(trial.IMAGES, model))


def _front(start: Settled, feed: Feed, reference: Answers) -> Metrics:
    """Measure what absorbing the front changes in float: nothing but rounding where the fold is exact."""
    if start.entry.kind == "pixels":
        return {"front": "float", "front_exact": True, "front_agreement": 1.0}
    if start.entry.kind != "absorbed":
        return {}
    found = trial.answers(start.model, feed)
    same = [_same(found[name], value) for name, value in reference.items()]
    return {"front": "absorbed", "front_exact": start.entry.exact, "front_agreement": float(np.mean(same))}


def _same(found: NDArray[Any], value: NDArray[Any]) -> float:
    """Return the part of the samples whose largest channel, or where each is one number that number, is the same."""
    if value.ndim == 1:
        return float(np.isclose(found, value, rtol=1e-3, atol=1e-6).mean())
    return float((found.argmax(1) == value.argmax(1)).mean())


def _sqnr(found: Settled, feed: Feed, reference: Answers, policy: Int8, config: Quantize) -> float:
    few = feed.few(_OBSERVED, found.model)
    observed = observe(found.model, found.tensors, few, COUNTED[config.calibrators()[0]], lambda done, total: None)
    grids = grids_of(observed, found, policy, config)
    quantized = qdq.quantized(found.model, grids, {}, policy, found.in_float)
    return trial.sqnr(reference, trial.answers(quantized, feed))


def _copy(found: Settled) -> Settled:
    return replace(found, model=copied(found.model))


def _channel_lows(found: Settled, feed: Feed) -> dict[str, NDArray[np.float32]]:
    """Return what nearly all values of each channel exceed, for what pairs could absorb."""
    names = list(dict.fromkeys(pair.second.input[0] for pair in equalisation.absorbing(Wiring(found.model))))
    if not names:
        return {}
    session = tensor_session(found.model, names)
    sums: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    for _, inputs in feed.batches_for(session, 8):
        for name, value in zip(names, runtime.answer(session, names, inputs), strict=True):
            by_channel = np.moveaxis(value, 1, 0).reshape(value.shape[1], -1).astype(np.float64)
            sums[name].append(np.stack([by_channel.mean(1), (by_channel**2).mean(1)]))
    lows = {}
    for name, parts in sums.items():
        mean, square = np.mean(parts, axis=0)
        lows[name] = (mean - _DEVIATIONS * np.sqrt(np.maximum(square - mean**2, 0))).astype(np.float32)
    return lows
