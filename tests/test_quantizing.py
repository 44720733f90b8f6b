"""More effort only while the budget is missed, and the least change that keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

from edgekd.quantize.entry import INPUTS, Entry
from edgekd.quantize.stage import INT8
from edgekd.quantizing import Quantizer
from edgekd.recipe import Quantize
from edgekd.run import Run
from edgekd.store import Artifact, Store
from edgekd.target import Int8
from tests.quantize.graphs import images, two_layers


def samples_in(folder: Path, count: int = 40) -> Path:
    folder.mkdir()
    np.save(folder / "input-0.npy", images(count))
    (folder / INPUTS).write_text(json.dumps(["x"]))
    return folder


@pytest.fixture
def made(tmp_path: Path) -> tuple[Quantizer, list[str]]:
    lines: list[str] = []
    onnx.save(two_layers(), tmp_path / "graph.onnx")
    store = Store(tmp_path / "store", Run(say=lines.append))
    samples = samples_in(tmp_path / "samples")
    return Quantizer(store, tmp_path / "graph.onnx", samples, Int8(), Quantize(), Entry(kind="arrays")), lines


def in_float(candidates: Artifact) -> list[str]:
    return list(candidates.metrics["in_float"])


def test_learned_rounding_is_tried_before_any_node_goes_back_to_float(made: tuple[Quantizer, list[str]]) -> None:
    quantizer, _ = made
    tried: list[Artifact] = []
    found = quantizer.improved(lambda each: bool(tried.append(each)) or True)
    assert found is tried[0]
    assert "optq" in found.metrics["rounding"]
    assert in_float(found) == []


def test_the_fewest_nodes_stay_in_float_the_most_damaging_first(made: tuple[Quantizer, list[str]]) -> None:
    quantizer, lines = made
    worst = quantizer.worst()
    assert sorted(worst) == ["conv_c", "conv_y"]
    found = quantizer.improved(lambda each: len(in_float(each)) >= 1)
    assert found is not None
    assert in_float(found) == worst[:1]
    kinds = [each.op_type for each in onnx.load(found.path / INT8).graph.node]
    assert kinds.count("DequantizeLinear") < 6
    assert any("1 of 2 nodes stay in float" in line for line in lines)


def test_where_nothing_helps_there_is_nothing(made: tuple[Quantizer, list[str]]) -> None:
    assert made[0].improved(lambda each: False) is None


def test_another_calibrator_asks_for_histograms_once_and_another_policy_observes_nothing_anew(
    made: tuple[Quantizer, list[str]],
) -> None:
    from dataclasses import replace

    quantizer, lines = made
    plain = replace(quantizer, config=Quantize(equalise=False, absorb_bias=False, calibrator="mse"))
    plain.first()
    del lines[:]
    replace(plain, config=plain.config.model_copy(update={"calibrator": "entropy"})).first()
    assert lines == ["quantize runs: calibrator mse -> entropy"]
    del lines[:]
    replace(plain, policy=Int8(reduce_range=True)).first()
    assert not any(line.startswith("calibrate runs") for line in lines)


def test_sensitivity_puts_the_node_first_that_int8_hurts_most(tmp_path: Path) -> None:
    """One channel of the second layer's input is a thousand times larger than all others."""
    model = two_layers()
    wide: ModelProto = model
    from edgekd.quantize.wiring import Wiring

    wiring = Wiring(wide)
    first, second = wiring.constant("w1"), wiring.constant("w2")
    assert first is not None
    assert second is not None
    scale = np.array([1000.0, 1, 1, 1, 1, 1])
    wiring.set("w1", first * scale.reshape(-1, 1, 1, 1))
    wiring.set("w2", second / scale.reshape(1, -1, 1, 1))
    onnx.save(wide, tmp_path / "graph.onnx")
    quantizer = Quantizer(
        Store(tmp_path / "store"), tmp_path / "graph.onnx", samples_in(tmp_path / "samples"), Int8(per_channel=False),
        Quantize(equalise=False), Entry(kind="arrays"),
    )  # fmt: skip
    file = quantizer.store.run(
        _stage(), repaired=quantizer.repaired().path, observed=quantizer._observed(quantizer.repaired()).path,
        samples=quantizer.samples, policy=quantizer.policy, config=Quantize(), kernels="",
    )  # fmt: skip
    rows: list[dict[str, Any]] = json.loads(file.path.read_text())
    assert [row["sqnr"] for row in rows] == sorted(row["sqnr"] for row in rows)
    assert rows[0]["sqnr"] < 20


def _stage() -> Any:
    from edgekd.quantize.sensitivity import sensitivity

    return sensitivity


def test_a_graph_with_an_unnamed_node_can_stay_in_float_by_its_given_name(tmp_path: Path) -> None:
    model = two_layers()
    for each in model.graph.node:
        each.name = ""
    model.graph.node[0].CopyFrom(helper.make_node("Conv", list(model.graph.node[0].input), ["c"], pads=[1] * 4))
    onnx.save(model, tmp_path / "graph.onnx")
    quantizer = Quantizer(
        Store(tmp_path / "store"), tmp_path / "graph.onnx", samples_in(tmp_path / "samples"), Int8(), Quantize(),
        Entry(kind="arrays"),
    )  # fmt: skip
    assert sorted(quantizer.worst()) == ["Conv_0", "Conv_2"]
    assert in_float(quantizer.with_in_float(("Conv_2",))) == ["Conv_2"]
