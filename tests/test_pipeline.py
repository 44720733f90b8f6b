"""The toy recipe, end to end: it trains, prunes, quantizes and runs, and nothing runs twice."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import edgekd
from edgekd import pipeline, stages
from edgekd import recipe as recipes
from edgekd.errors import ModelError
from edgekd.run import Run
from edgekd.stage import Stage
from tests.half import assert_front_in_float32, assert_valid

if TYPE_CHECKING:
    from conftest import ToyBuild


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_bundle_is_exactly_these_files(toy: ToyBuild) -> None:
    for target in ("arm64", "cpu"):
        found = {file.name for file in toy.bundle(target).iterdir()}
        assert found == {"model.onnx", "manifest.json", "labels.txt", "report.json", "golden.npz"}


def test_the_model_takes_uint8_nhwc_pixels_and_replays_its_golden_outputs(toy: ToyBuild) -> None:
    bundle = toy.bundle("cpu")
    session = ort.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    golden = np.load(bundle / "golden.npz")
    assert (entry.name, entry.type, entry.shape[1:]) == ("image", "tensor(uint8)", [16, 16, 3])
    assert golden["image"].shape == (16, 16, 16, 3)
    logits = session.run(["logits"], {"image": golden["image"]})[0]
    np.testing.assert_array_equal(logits, golden["logits"])


def test_the_int8_graph_is_integer_from_pixels_to_logits(toy: ToyBuild) -> None:
    for built in toy.build.bundles:
        assert built.report.precision == "int8"
        assert built.report.operators_in_float == {}
        assert json.loads((built.folder / "manifest.json").read_text())["golden"]["exact"] is True


def test_the_toy_learns(toy: ToyBuild) -> None:
    accuracy = {row.stage: row.top1 for row in toy.build.bundles[0].report.accuracy}
    assert list(accuracy) == ["teacher", "student", "pruned", "simplified", "int8"]
    assert min(accuracy.values()) > 0.8


def test_any_x86_gets_7_bit_weights_and_arm_8_bit(toy: ToyBuild) -> None:
    def widest(target: str) -> int:
        graph = onnx.load(toy.bundle(target) / "model.onnx").graph
        weights = [
            onnx.numpy_helper.to_array(value) for value in graph.initializer if value.data_type == onnx.TensorProto.INT8
        ]
        return max(int(np.abs(weight.astype(int)).max()) for weight in weights if weight.ndim > 1)

    assert widest("cpu") <= 64
    assert widest("arm64") == 127


def test_torch_stages_are_shared_by_targets(toy: ToyBuild) -> None:
    runs = [line.split()[0] for line in toy.lines if " runs:" in line]
    assert [runs.count(stage) for stage in ("prepare", "teacher", "distill", "prune", "recover")] == [1, 1, 1, 1, 1]
    assert runs.count("quantize") == 2


def test_no_latency_is_given_for_a_machine_that_is_not_the_target(toy: ToyBuild) -> None:
    here, elsewhere = ("cpu", "arm64") if os.uname().machine == "x86_64" else ("arm64", "cpu")
    reports = {built.report.target: built.report for built in toy.build.bundles}
    assert reports[elsewhere].latency is None
    assert "this machine is" in reports[elsewhere].latency_missing_because
    host = reports[elsewhere].this_host
    assert host is not None
    assert [row.model for row in host.rows] == ["teacher", "float", "int8"]
    assert reports[here].latency is not None


def test_nothing_runs_twice_and_bytes_stay(toy: ToyBuild) -> None:
    before = sha256(toy.bundle("arm64") / "model.onnx")
    lines: list[str] = []
    edgekd.build(toy.folder, targets=["arm64"], out=toy.folder / "dist", run=Run(say=lines.append))
    assert not [line for line in lines if " runs:" in line]
    assert sha256(toy.bundle("arm64") / "model.onnx") == before


def test_two_empty_stores_in_different_folders_give_the_same_bytes(toy: ToyBuild, copy_toy: Callable[[], Path]) -> None:
    other = copy_toy()
    edgekd.build(other, targets=["arm64"], out=other / "elsewhere")
    assert sha256(other / "elsewhere/toy-arm64/model.onnx") == sha256(toy.bundle("arm64") / "model.onnx")


def test_no_file_of_a_bundle_names_a_path_of_the_machine(toy: ToyBuild) -> None:
    words = [str(toy.folder), str(Path.home()), sys.prefix, "site-packages", os.uname().nodename]
    for file in toy.bundle("arm64").iterdir():
        content = file.read_bytes()
        assert [word for word in words if len(word) > 4 and word.encode() in content] == []


def test_a_plan_says_why_and_runs_nothing(toy: ToyBuild) -> None:
    recipe = recipes.load(toy.folder, ["distill.temperature=2.0"])
    before = sorted(path.name for path in (toy.folder / ".edgekd").iterdir())
    lines: list[str] = []
    pipeline.plan(recipe, ["arm64"], run=Run(say=lines.append))
    assert "teacher: unchanged, from the store" in lines
    assert "distill would run: temperature 4.0 -> 2.0" in lines
    assert "prune: will run, its input is not made yet" in lines
    assert sorted(path.name for path in (toy.folder / ".edgekd").iterdir()) == before


def test_from_a_stage_runs_it_again_and_those_after_it(toy: ToyBuild) -> None:
    lines: list[str] = []
    edgekd.build(
        toy.folder, targets=["arm64"], out=toy.folder / "dist", from_stage="simplify", run=Run(say=lines.append)
    )
    runs = {line.split()[0] for line in lines if "asked for by --from" in line}
    assert runs == {"simplify", "repair", "calibrate", "quantize", "evaluate"}


def stages_in_the_package() -> set[str]:
    """The name of each Stage in any module of the package."""
    modules = [name for _, name, _ in pkgutil.walk_packages(edgekd.__path__, "edgekd.") if "__main__" not in name]
    values = [value for name in modules for value in vars(importlib.import_module(name)).values()]
    return {value.name for value in values if isinstance(value, Stage)}


def test_the_order_of_the_stages_holds_every_stage_of_the_package_once() -> None:
    names = [each.name for each in stages.STAGES]
    assert len(names) == len(set(names))
    assert set(names) == stages_in_the_package()
    assert {each.name for each in stages.STAGES if each.resumes} == {
        each.name for each in stages.STAGES if each.trains
    }, "what trains goes on where it was killed"


_NOT_OF_THE_TOY = {"draw", "teach", "couple", "sparsify", "finetune", "sensitivity", "convert", "ship"}


@pytest.mark.parametrize("stage", stages.ORDER)
def test_after_a_full_build_a_plan_from_any_stage_says_what_would_run(toy: ToyBuild, stage: str) -> None:
    lines: list[str] = []
    pipeline.plan(toy.folder, ["arm64", "cpu"], from_stage=stage, run=Run(say=lines.append))
    planned = {line.split()[0] for line in lines if "would run: asked for by --from" in line}
    assert lines[-1] == "bench and bundle always run"
    assert planned <= set(stages.ORDER[stages.ORDER.index(stage) :])
    if stage in {
        "prepare",
        "teacher",
        "distill",
        "prune",
        "recover",
        "export",
        "simplify",
        "repair",
        "calibrate",
        "quantize",
    }:
        assert stage in planned
    unchanged = {line.split()[0].rstrip(":") for line in lines if "unchanged" in line}
    assert unchanged <= set(stages.ORDER[: stages.ORDER.index(stage)])


def test_the_log_tells_the_teacher_from_the_student_and_nothing_changed_that_never_ran(toy: ToyBuild) -> None:
    assert {"initialise teacher runs: not run before", "initialise student runs: not run before"} <= set(toy.lines)
    evaluated = [line.removesuffix(" runs: not run before") for line in toy.lines if line.startswith("evaluate")]
    assert {"evaluate teacher on val", "evaluate int8 on val", "evaluate int8 on test"} <= set(evaluated)
    assert [line for line in toy.lines if line.startswith("initialise") and "changed" in line] == []


def test_a_missed_budget_is_exit_code_3_and_keeps_the_files(toy: ToyBuild) -> None:
    recipe = recipes.load(toy.folder, ["budget.max_size_kb=1", "budget.min_accuracy=0.5"])
    built = edgekd.build(recipe, targets=["arm64"], out=toy.folder / "missed")
    states = {verdict.budget: verdict.state for verdict in built.bundles[0].report.budgets}
    assert built.exit_code == 3
    assert states == {"min_accuracy": "met", "max_size_kb": "missed"}
    assert (toy.folder / "missed/toy-arm64/model.onnx").exists()


def test_a_network_that_cannot_be_exported_is_refused_before_training(copy_toy: Callable[[], Path]) -> None:
    folder = copy_toy()
    (folder / "toy_models.py").write_text(
        (folder / "toy_models.py")
        .read_text()
        .replace("return self.head(", "if float(x.sum()) > 0:\n            x = x + 1\n        return self.head(")
    )
    lines: list[str] = []
    with pytest.raises(ModelError, match="cannot be exported"):
        edgekd.build(folder, targets=["arm64"], out=folder / "dist", run=Run(say=lines.append))
    assert not [line for line in lines if line.startswith("teacher runs")]


def test_a_network_that_cannot_be_fine_tuned_is_refused_before_training(copy_toy: Callable[[], Path]) -> None:
    """Its refusal comes out of the rehearsal: all that the real build would have spent is one preparation."""
    folder = copy_toy()
    code = (folder / "toy_models.py").read_text()
    (folder / "toy_models.py").write_text(code.replace("self.body(x))", "self.body(x).double().relu().float())"))
    recipe = (folder / recipes.FILE_NAME).read_text()
    # The teacher alone, trained and quantized: the rehearsal is as short as can be.
    (folder / recipes.FILE_NAME).write_text(recipe[: recipe.index("[student]")] + recipe[recipe.index("[quantize]") :])
    lines: list[str] = []
    recipe_with = recipes.load(folder, ["finetune.epochs=1"])
    with pytest.raises(ModelError, match=r"fine-tuning cannot train the Cast .*: it makes DOUBLE") as caught:
        edgekd.build(recipe_with, targets=["arm64"], out=folder / "dist", run=Run(say=lines.append))
    assert caught.value.hint == "leave out [finetune]"
    assert [line for line in lines if " runs:" in line] == ["prepare runs: not run before"]


@pytest.mark.slow
def test_a_build_killed_while_it_distills_goes_on_and_ends_with_the_same_bytes(
    toy: ToyBuild, copy_toy: Callable[[], Path]
) -> None:
    folder = copy_toy()
    command = [sys.executable, "-m", "edgekd.cli", "build", "--target", "arm64"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("distill: epoch 2/"):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "distill: goes on after epoch" in done.stdout
    assert sha256(folder / "dist/toy-arm64/model.onnx") == sha256(toy.bundle("arm64") / "model.onnx")


def test_finetune_trains_the_rounded_graph_and_its_weights_are_what_ships(toy: ToyBuild, tmp_path: Path) -> None:
    recipe = recipes.load(toy.folder, ["finetune.epochs=1", "finetune.batch=64", "finetune.augment.flip=false"])
    lines: list[str] = []
    built = edgekd.build(recipe, targets=["arm64"], out=tmp_path, run=Run(say=lines.append)).bundles[0]
    assert "finetune runs: not run before" in lines
    rows = {row.stage: row.top1 for row in built.report.accuracy}
    tuned = built.report.training["finetune"]
    assert (tuned["epochs"], tuned["epoch"]) == (1, 1)
    assert tuned["val_accuracy"] > 0.8
    assert rows["int8"] >= rows["simplified"] - 0.03
    assert built.report.operators_in_float == {}
    assert sha256(built.folder / "model.onnx") != sha256(toy.bundle("arm64") / "model.onnx")


def test_other_draws_of_calibration_images_are_reported_with_their_spread(toy: ToyBuild, tmp_path: Path) -> None:
    recipe = recipes.load(toy.folder, ["quantize.study=3"])
    built = edgekd.build(recipe, targets=["arm64"], out=tmp_path).bundles[0]
    study = built.report.quantization["study"]
    assert len(study) == 3
    assert all(each["agreement"] > 0.9 for each in study)
    assert any(note.startswith("3 other draws of calibration images") for note in built.report.notes)
    assert sha256(built.folder / "model.onnx") == sha256(toy.bundle("arm64") / "model.onnx")


def test_an_accuracy_budget_that_int8_misses_is_kept_by_more_effort_or_said(toy: ToyBuild, tmp_path: Path) -> None:
    """No candidate may lose anything: learned rounding, then nodes in float, then float itself."""
    recipe = recipes.load(toy.folder, ["budget.max_accuracy_drop=-0.2"])
    lines: list[str] = []
    built = edgekd.build(recipe, targets=["arm64"], out=tmp_path, run=Run(say=lines.append))
    assert built.exit_code == 3, "even float misses it: int8 is shipped as it is, and the budget is missed"
    assert built.bundles[0].report.precision == "int8"
    assert not any("learned rounding" in line for line in lines)


def test_a_recipe_may_ask_for_float_on_any_target(toy: ToyBuild, tmp_path: Path) -> None:
    recipe = recipes.load(toy.folder, ["quantize.precision=float"])
    built = edgekd.build(recipe, targets=["arm64"], out=tmp_path).bundles[0]
    assert (built.report.precision, built.report.shipped_because) == ("float", "as the recipe asks")
    assert built.report.quantization == {}


def test_a_bundle_for_cuda_is_valid_in_float16_with_its_front_in_float32(toy: ToyBuild, tmp_path: Path) -> None:
    """Writing it takes no GPU; its golden outputs are within its tolerance of the reference evaluator's."""
    built = edgekd.build(recipes.load(toy.folder), targets=["cuda"], out=tmp_path).bundles[0]
    assert built.report.precision == "fp16"
    golden = np.load(built.folder / "golden.npz")
    model = onnx.load(built.folder / "model.onnx")
    assert_front_in_float32(model)
    found = assert_valid(model, {"image": golden["image"]})[0]
    tolerance = json.loads((built.folder / "manifest.json").read_text())["golden"]["tolerance"]
    assert np.abs(found - golden["logits"]).max() <= tolerance
