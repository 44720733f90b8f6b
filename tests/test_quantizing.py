"""More effort only while the budget is missed, and the least change that keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

from edgekd.quantize.divergence import Measure
from edgekd.quantize.entry import Entry
from edgekd.quantize.sensitivity import Cost, costs
from edgekd.quantize.stage import INT8
from edgekd.quantizing import Aim, Quantizer, _needed
from edgekd.recipe import Quantize
from edgekd.run import Run
from edgekd.stage import Artifact
from edgekd.store import Store
from edgekd.target import Int8
from edgekd.workload.arrays import INPUTS
from tests.quantize.graphs import graph, images, node, two_layers


def samples_in(folder: Path, count: int = 40) -> Path:
    folder.mkdir()
    np.save(folder / "input-0.npy", images(count))
    (folder / INPUTS).write_text(json.dumps(["x"]))
    return folder


def quantizer_of(model: ModelProto, folder: Path, run: Run | None = None) -> Quantizer:
    onnx.save(model, folder / "graph.onnx")
    samples = samples_in(folder / "samples")
    store = Store(folder / "store", run or Run())
    return Quantizer(store, folder / "graph.onnx", samples, Int8(), Quantize(effort="thorough"), Entry(kind="arrays"))


@pytest.fixture
def made(tmp_path: Path) -> tuple[Quantizer, list[str]]:
    lines: list[str] = []
    return quantizer_of(two_layers(), tmp_path, Run(say=lines.append)), lines


def aim(keeps: Callable[[Artifact], object], excess: float = 2.0) -> Aim:
    """What is reached where `keeps` says so; until then candidates lose `excess` times what they may."""
    return Aim(lambda each: bool(keeps(each)), lambda each: excess, Measure())


def worst(quantizer: Quantizer) -> list[str]:
    units = tuple((node,) for node in quantizer._nodes)
    return [node for cost in costs(quantizer.sensitivity("mse", units, Measure())) for node in cost.nodes]


def in_float(candidates: Artifact) -> list[str]:
    return list(candidates.metrics["in_float"])


def test_other_ranges_then_learned_rounding_are_tried_before_any_node_goes_back_to_float(
    made: tuple[Quantizer, list[str]],
) -> None:
    quantizer, lines = made
    assert quantizer.first().metrics["calibrator"] == "mse"
    del lines[:]
    tried: list[Artifact] = []
    quantizer.improved(aim(lambda each: tried.append(each) or in_float(each)))
    observed_anew = any(line.startswith("calibrate runs") for line in lines)
    ways = [("optq" in each.metrics["rounding"], each.metrics["calibrator"]) for each in tried[:2]]
    better = max(("mse", "min-max"), key=lambda name: candidates(quantizer, name).metrics["sqnr"])
    assert ways == [(False, "min-max"), (True, better)]
    assert [len(in_float(each)) for each in tried] == [0, 0, 1]
    assert not observed_anew, "the same pass gives either's ranges"


def candidates(quantizer: Quantizer, calibrator: Any, rounding: Any = "nearest") -> Artifact:
    return replace(quantizer, config=Quantize(calibrator=calibrator, rounding=rounding)).first()


def test_nodes_go_back_to_float_in_the_way_whose_answers_are_nearest_to_floats(
    made: tuple[Quantizer, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    quantizer, _ = made
    worse = {"min-max, nearest": 30.0, "mse, nearest": 20.0, "min-max, optq": 10.0}
    monkeypatch.setattr(Quantizer, "_sqnr", lambda self, way: worse[f"{way.calibrator}, {way.rounding}"])
    found = quantizer.improved(aim(in_float))
    assert found is not None
    assert (found.metrics["calibrator"], "optq" in found.metrics["rounding"]) == ("min-max", False)


def test_a_calibrator_or_rounding_that_is_named_is_not_replaced(made: tuple[Quantizer, list[str]]) -> None:
    quantizer, _ = made
    named = replace(quantizer, config=Quantize(calibrator="percentile", rounding="nearest", effort="thorough"))
    tried: list[Artifact] = []
    assert named.improved(aim(tried.append)) is None
    assert {each.metrics["calibrator"] for each in tried} == {"percentile"}
    assert not any("optq" in each.metrics["rounding"] for each in tried)


def test_weights_of_uint8_are_not_learned_since_nothing_would_change(made: tuple[Quantizer, list[str]]) -> None:
    quantizer, lines = made
    replace(quantizer, policy=Int8(weights="uint8")).improved(aim(lambda each: False))
    assert any("min-max ranges" in line for line in lines)
    assert not any("learned" in line for line in lines)


def test_where_float_is_all_that_helps_there_are_no_int8_candidates(tmp_path: Path) -> None:
    """One convolution: with it in float nothing would be quantized."""
    model = two_layers()
    del model.graph.node[1:]
    model.graph.node[0].output[0] = "y"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6
    quantizer = quantizer_of(model, tmp_path)
    assert worst(quantizer) == ["conv_c"]
    assert quantizer.improved(aim(lambda each: False)) is None


@pytest.mark.parametrize("batch", ["N", 16])
def test_labels_that_an_output_has_no_classes_for_or_a_fixed_batch_leaves_out_do_not_matter(
    tmp_path: Path, batch: Any
) -> None:
    model = two_layers()
    for value in (*model.graph.input, *model.graph.output):
        dim = value.type.tensor_type.shape.dim[0]
        if batch != "N":
            dim.dim_value = batch
    quantizer = quantizer_of(model, tmp_path)
    np.save(quantizer.samples / "labels.npy", np.arange(40) % 4)
    assert sorted(worst(quantizer)) == ["conv_c", "conv_y"]


def test_what_is_kept_of_an_attempt_is_the_ratio_after_its_last_step(made: tuple[Quantizer, list[str]]) -> None:
    metrics = candidates(made[0], "mse", "optq").metrics
    assert metrics["sqnr"] == metrics["rounding_sqnr"][metrics["rounding"][-1]]


def test_the_fewest_nodes_stay_in_float_the_most_damaging_first(made: tuple[Quantizer, list[str]]) -> None:
    quantizer, lines = made
    nodes = worst(quantizer)
    assert sorted(nodes) == ["conv_c", "conv_y"]
    found = quantizer.improved(aim(in_float))
    assert found is not None
    assert in_float(found) == nodes[:1]
    kinds = [each.op_type for each in onnx.load(found.path / INT8).graph.node]
    assert kinds.count("DequantizeLinear") < 6
    assert any("1 of 2 nodes stay in float" in line for line in lines)


def test_where_nothing_helps_there_is_nothing(made: tuple[Quantizer, list[str]]) -> None:
    assert made[0].improved(aim(lambda each: False)) is None


def test_where_repairs_stay_the_same_another_calibrator_or_policy_observes_nothing_anew(
    made: tuple[Quantizer, list[str]],
) -> None:
    quantizer, lines = made
    plain = replace(quantizer, config=Quantize(equalise=False, absorb_bias=False, calibrator="percentile"))
    plain.first()
    del lines[:]
    replace(plain, config=plain.config.model_copy(update={"calibrator": "entropy"})).first()
    assert lines == [f"{name} runs: calibrator percentile -> entropy" for name in ("repair", "quantize")]
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
    quantizer = replace(quantizer_of(wide, tmp_path), policy=Int8(per_channel=False), config=Quantize(equalise=False))
    file = quantizer.store.run(
        _stage(), repaired=quantizer.repaired().path, observed=quantizer._observed(quantizer.repaired()).path,
        samples=quantizer.samples, policy=quantizer.policy, config=Quantize(calibrator="min-max"),
        units=(("conv_c",), ("conv_y",)), classes=(), metric=None, kernels="",
    )  # fmt: skip
    rows: list[dict[str, Any]] = json.loads(file.path.read_text())["units"]
    assert [row["lost"] for row in rows] == sorted((row["lost"] for row in rows), reverse=True)
    assert rows[0]["sqnr"] < 20


def _stage() -> Any:
    from edgekd.quantize.sensitivity import sensitivity

    return sensitivity


def test_a_graph_with_an_unnamed_node_can_stay_in_float_by_its_given_name(tmp_path: Path) -> None:
    model = two_layers()
    for each in model.graph.node:
        each.name = ""
    model.graph.node[0].CopyFrom(helper.make_node("Conv", list(model.graph.node[0].input), ["c"], pads=[1] * 4))
    quantizer = quantizer_of(model, tmp_path)
    assert sorted(worst(quantizer)) == ["Conv_0", "Conv_2"]
    assert in_float(quantizer.with_in_float(("Conv_2",))) == ["Conv_2"]


def tried_by(quantizer: Quantizer, effort: Any, excess: float) -> list[int]:
    """How many nodes are in float in each candidate that an effort tries where nothing reaches the budget."""
    tried: list[Artifact] = []
    found = replace(quantizer, config=Quantize(effort=effort)).improved(aim(tried.append, excess))
    assert found is None
    return [len(in_float(each)) for each in tried]


def test_a_quick_effort_tries_nothing_and_a_normal_one_ends_where_no_few_nodes_can_help(
    made: tuple[Quantizer, list[str]],
) -> None:
    quantizer, lines = made
    assert tried_by(quantizer, "quick", 2.0) == []
    assert tried_by(quantizer, "normal", 1000.0) == [0], "other ranges; exact weights would not do either"
    assert any("no few nodes in float would mend it" in line for line in lines)
    assert tried_by(quantizer, "thorough", 1000.0) == [0, 0, 1]


def test_what_units_cost_says_how_many_go_to_float() -> None:
    costs = [Cost(("a",), 0.5), Cost(("b",), 0.3), Cost(("c",), 0.1), Cost(("d",), 0.1)]
    assert [_needed(costs, excess) for excess in (1.5, 2.0, 4.0, 6.0, 100.0)] == [1, 1, 2, 3, 4]
    others = [Cost(("a",), 0.5), Cost(("b",), 0.3), Cost((), 0.2)]
    assert [_needed(others, excess) for excess in (2.0, 5.0, 6.0)] == [1, 2, 4], "what stays is no node to keep"


def chain(layers: int) -> ModelProto:
    """Convolutions one behind another; the fifth weight has one large value in each filter."""
    generator = np.random.default_rng(0)
    nodes, values, source = [], {}, "x"
    for number in range(layers):
        inputs = 3 if number == 0 else 8
        weight = generator.standard_normal((8, inputs, 3, 3)) * 0.2
        if number == 4:
            weight[:, 0, 0, 0] = 60
        values[f"w{number}"] = weight
        name = "y" if number == layers - 1 else f"c{number}"
        nodes.append(node("Conv", [source, f"w{number}"], name, pads=[1] * 4))
        source = name
    return graph(nodes, values, made=["N", 8, 8, 8])


def test_only_the_nodes_of_the_blocks_that_cost_most_are_tried_alone(tmp_path: Path) -> None:
    lines: list[str] = []
    quantizer = replace(quantizer_of(chain(16), tmp_path, Run(say=lines.append)), config=Quantize())
    found = quantizer.improved(aim(in_float, 1.2))
    assert found is not None
    assert set(in_float(found)) <= set(worst(quantizer)[:3]), "as if all had been tried alone"
    tried = [json.loads(file.read_text()) for file in quantizer.store.folder.glob("sensitivity-*/sensitivity.json")]
    assert sorted(len(each["units"]) for each in tried) == [2, 8, 16], (
        "one block of two, the blocks, and all for this test"
    )
