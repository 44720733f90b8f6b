"""From what the stages made to a report: measured, judged, and said in words."""

from __future__ import annotations

import math
import statistics
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd import host as hosts
from edgekd import operators, quantization
from edgekd.bench import measure as bench
from edgekd.bench import profile
from edgekd.budget import Reached, costliest, judge, judge_kept
from edgekd.evaluate.stage import agree
from edgekd.products import Graphs, LatencyCut, Networks
from edgekd.project import Project
from edgekd.recipe import Sparse
from edgekd.report.contents import Files, Measured, Report, Spread, StageRow, Verdict
from edgekd.report.latency import as_report
from edgekd.runtime import exact_here, settings_for
from edgekd.ship import Shipped
from edgekd.stage import Artifact
from edgekd.target import Target


@dataclass(frozen=True)
class Judged:
    """What a report is made of."""

    project: Project
    networks: Networks
    graphs: Graphs
    target: Target
    shipped: Shipped
    evaluated: Mapping[str, tuple[Path, Artifact]]
    """By stage, in order: the ONNX file and its evaluation on test; the last is what is shipped."""
    over_seeds: Mapping[str, list[float]]
    """By row: the accuracies on test of all seeds; empty where there is one."""
    cost_of_float: Mapping[str, float]
    """By node that the accuracy budget kept in float: milliseconds."""
    study: tuple[Mapping[str, float], ...]
    """What other draws of calibration images gave on validation."""


def report_on(judged: Judged) -> Report:
    """Measure latency, judge the budgets, and return the report."""
    rows = tuple(_row(stage, file, result) for stage, (file, result) in judged.evaluated.items())
    here = hosts.this()
    why_not = hosts.why_not(judged.target.device, here)
    measured = _measure(judged, why_not is None)
    latency = measured if why_not is None else None
    reached = Reached(
        accuracy=rows[-1].top1,
        teacher_accuracy=rows[0].top1,
        latency_ms=latency.rows[-1].p50_ms if latency else None,
        size_kb=rows[-1].size_kb,
    )
    recipe = judged.project.recipe
    verdicts = judge(recipe.budget.over(judged.target.budget), reached)
    kept = _latency_kept(judged, latency)
    if (cut := _cut_for(judged)) is not None:
        verdicts = (*verdicts, judge_kept("prune.keep_latency", cut.asked, kept))
    model, final = list(judged.evaluated.values())[-1]
    parent = judged.evaluated["simplified"][1]
    ran = operators.that_run(model, exact_here(judged.target, here, 1))
    data = judged.networks.data.metrics
    return Report(
        name=recipe.name,
        target=judged.target.name,
        precision=judged.shipped.precision,
        shipped_because=judged.shipped.reason,
        accuracy=rows,
        agreement_with_float=agree(parent.path, final.path),
        latency=latency,
        latency_missing_because=why_not or "",
        this_host=measured if why_not else None,
        operators=ran.counts,
        operators_in_float=ran.in_float,
        budgets=tuple(
            Verdict(budget=verdict.name, asked=verdict.asked, got=verdict.got, state=verdict.state)
            for verdict in verdicts
        ),
        costliest=costliest([(row.stage, row.top1) for row in rows]),
        data={
            **{key: value for key, value in data.items() if key not in {"classes", "files"}},
            "seed": recipe.data.seed,
        },
        files=Files(**data["files"]),
        training=_training(judged),
        seeds=_seeds(judged),
        pruning={**_pruning(judged), **({"latency_kept": kept} if kept is not None else {})},
        front=quantization.front_of(judged.graphs.repaired),
        quantization=quantization.of(judged.shipped, judged.graphs.repaired, judged.cost_of_float, judged.study),
        notes=(*_notes(judged), *_quantized_notes(judged, ran.in_float)),
    )


def _row(stage: str, file: Path, result: Artifact) -> StageRow:
    return StageRow(stage=stage, size_kb=file.stat().st_size / 1000, **result.metrics)


def _measure(judged: Judged, on_target: bool) -> Measured:
    """Time the teacher's float graph, the float parent and what is shipped, in one interleaved run."""
    runtime = judged.target.runtime
    settings = settings_for(runtime, on_target)
    models = {"teacher": judged.graphs.teacher.path, "float": judged.shipped.parent}
    if (cut := _cut_for(judged)) is not None:
        models["unpruned"] = cut.unpruned / judged.shipped.file
    if judged.shipped.precision != "float":
        models[judged.shipped.precision] = judged.shipped.path
    run = bench.measure(models, settings, judged.project.recipe.bench)
    return as_report(run)


def _training(judged: Judged) -> dict[str, Any]:
    recipe = judged.project.recipe
    found: dict[str, Any] = {}
    for name, artifact, config in (
        ("teacher", judged.networks.teacher, recipe.teacher.train if recipe.teacher.is_trained else None),
        ("distill", judged.networks.student, recipe.distill),
        ("recover", judged.networks.final, recipe.prune.recovery if recipe.prune else None),
        ("finetune", judged.graphs.tuned, recipe.finetune),
    ):
        if config is not None and artifact is not None:
            kept = {key: artifact.metrics[key] for key in ("epoch", "epochs", "kept", "val_accuracy")}
            found[name] = {**config.model_dump(mode="json"), **kept}
    return found


def _cut_for(judged: Judged) -> LatencyCut | None:
    """Return the cut to a latency, where this is the target whose latency it is."""
    latency = judged.networks.latency
    return latency if latency is not None and latency.target == judged.target.name else None


def _latency_kept(judged: Judged, run: Measured | None) -> float | None:
    """Return what part of the unpruned network's latency the shipped file takes, on the target."""
    if _cut_for(judged) is None or run is None:
        return None
    # Both against the teacher, round by round: a neighbour that slows the machine down for a while slows all three.
    times = {row.model: row.times_faster_than_teacher for row in run.rows}
    return times["unpruned"] / times[judged.shipped.precision]


def _pruning(judged: Judged) -> dict[str, Any]:
    """Return what all steps together cut."""
    cuts, latency = judged.networks.cuts, judged.networks.latency
    if not cuts:
        return {}
    if isinstance(judged.project.recipe.prune, Sparse):
        return {"kind": "sparse", **cuts[-1].metrics}
    first, last = cuts[0].metrics, cuts[-1].metrics
    before = {key: first[key] for key in ("macs_before", "parameters_before")}
    groups: dict[str, list[int]] = {}
    for cut in cuts:
        for root, (was, left) in cut.metrics["groups"].items():
            groups[root] = [groups.get(root, [was])[0], left]
    blocks = [path for cut in cuts for path in cut.metrics["blocks"]]
    # Each step's are parts of what it was given.
    predicted = {key: math.prod(cut.metrics["predicted"][key] for cut in cuts) for key in last["predicted"]}
    rounds = {"latency": latency.as_json()} if latency is not None else {}
    found = {"kind": "channels", **last, **before, "predicted": predicted}
    return {**found, "groups": groups, "blocks": blocks, **rounds}


def _seeds(judged: Judged) -> tuple[Spread, ...]:
    return tuple(
        Spread(row=row, top1=tuple(found), mean=statistics.fmean(found), deviation=statistics.stdev(found))
        for row, found in judged.over_seeds.items()
        if found
    )


def _quantized_notes(judged: Judged, left: dict[str, int]) -> list[str]:
    """Say what stays in float of an int8 graph and what that takes, and what else quantizing came to."""
    if judged.shipped.precision != "int8":
        return []
    shares = profile.shares(judged.shipped.path, exact_here(judged.target, hosts.this(), 1))
    notes = quantization.notes(
        judged.target, judged.shipped, judged.graphs.repaired, judged.cost_of_float, judged.study
    )
    if not left:
        return notes
    named = ", ".join(
        f"{count} {name} ({100 * shares.get(name, 0.0):.1f} % of the time)" for name, count in left.items()
    )
    return [*notes, f"operators of the int8 graph that run in float here: {named}"]


def _selection(name: str, training: dict[str, Any]) -> str:
    """Say which epoch was kept of a training that started from weights which have seen the validation images."""
    seen = "the given weights have seen the validation images"
    if training["kept"] == "best":
        return f"{name}: {seen}, and yet the best epoch on them is kept, as select asks: it may only look best"
    taken = "the moving average after the last epoch" if training["ema"] else "the last epoch"
    return f"{name}: {seen}: {taken} is kept, not the best"


def _cut_notes(judged: Judged) -> list[str]:
    """Say what pruning brings, and how near a latency that was asked for came."""
    latency = judged.networks.latency
    notes = []
    prune = judged.project.recipe.prune
    if prune is not None and prune.recovery is None:
        notes.append("what pruning left was not trained again: the recipe has no [prune.recovery]")
    if isinstance(judged.project.recipe.prune, Sparse):
        found = judged.networks.cuts[-1].metrics
        model = judged.shipped.path
        packed = len(zlib.compress(model.read_bytes(), 9)) / 1000
        notes.append(
            f"sparse: {100 * found['weights_kept'] / found['weights']:.1f} % of the weights are left; onnxruntime's "
            f"CPU provider multiplies by zeros as by any number, so the file is no faster: what is gained is its size "
            f"when compressed ({packed:.1f} kB by zlib)"
        )
    if latency is not None:
        chosen = latency.chosen
        notes.append(
            f"cut to {latency.asked:g} of the unpruned latency: the layers' table predicted {chosen.predicted:.3f}, "
            f"measured {chosen.measured:.3f} after {len(latency.rounds)} round(s)"
        )
        if latency.why_this_host is not None:
            notes.append(f"that table and measurement are of this host: {latency.why_this_host}")
        if latency.target != judged.target.name:
            notes.append(
                f"that latency is of {latency.target}, the first target: for {judged.target.name} none was asked"
            )
    return notes


def _notes(judged: Judged) -> list[str]:
    data = judged.networks.data.metrics
    notes = _cut_notes(judged)
    if judged.shipped.refused is not None:
        notes.append("the int8 file lies beside it as int8.onnx; --ship int8 ships it")
    if data["val_from_train"] and judged.project.start_saw_train:
        notes += [_selection(name, training) for name, training in _training(judged).items() if name != "teacher"]
    elif data["val_from_train"] and judged.project.teacher_saw_train:
        notes.append("the teacher's weights have seen the validation images: int8 is judged by agreement with float")
    if data["test_images_in_train"]:
        notes.append(f"{data['test_images_in_train']} test images are also in train: accuracies flatter")
    if data["unreadable"]:
        notes.append(f"{data['unreadable']} unreadable images were left out")
    if judged.graphs.simplified.metrics["skipped"]:
        notes.append(f"not simplified: {judged.graphs.simplified.metrics['skipped']}")
    front = quantization.front_of(judged.graphs.repaired)
    if front.get("front") == "float":
        notes.append("the input does not feed exactly one convolution: normalisation stays in float")
    elif front.get("front_exact") is False:
        agreed = 100 * front["front_agreement"]
        notes.append(
            f"normalisation with a mean per channel is absorbed exactly but for the image's border: "
            f"{agreed:.2f} % of calibration images keep their class"
        )
    return notes
