"""One float file quantized for one target, judged, and written."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from edgekd import host as hosts
from edgekd import quantization
from edgekd.bench import profile
from edgekd.beside import replaced
from edgekd.operators import that_run
from edgekd.quantize import settled
from edgekd.quantize.divergence import Difference, Measure, listed
from edgekd.quantize.stage import FLOAT, INT8, convert
from edgekd.quantize.trial import to_db
from edgekd.quantizing import Quantizer
from edgekd.recipe import least_top1
from edgekd.run import Run
from edgekd.runtime import exact_here
from edgekd.ship import DROP, DROP_OF_VARIANCE, Judge, Shipped, cost_of_float, ship
from edgekd.stage import Artifact
from edgekd.standalone import judging
from edgekd.standalone.asked import Request
from edgekd.standalone.fed import fed_by, fed_line
from edgekd.standalone.judging import Comparison
from edgekd.standalone.opening import loaded
from edgekd.standalone.samples import CALIBRATED, CALIBRATION, Evaluator, collect
from edgekd.store import Store

_TOP1 = "points of top-1"


@dataclass(frozen=True)
class Quantized:
    """What was written, and what is said of it."""

    folder: Path
    report: dict[str, Any]
    missed: bool
    """Whether the accuracy budget is missed."""


def quantize_file(request: Request, run: Run) -> Quantized:
    """Quantize one float file for one target, judge it, and write model.onnx and report.json. Raises EdgekdError."""
    is_float = request.target.precision_under(request.settings.quantize) == "float"
    model = loaded(request.model, as_it_is=is_float)
    if not is_float:
        settled.check(model)
    with tempfile.TemporaryDirectory(prefix="edgekd-quantize-") as name:
        folder = Path(name)
        taken = fed_by(model, request)
        graph = folder / "graph.onnx"
        onnx.save(model, graph)
        collected = collect(request, model, taken, folder, run)
        store = Store(folder / "store", run)
        policy = request.target.policy_under(request.settings.quantize)
        quantizer = Quantizer(store, graph, folder / CALIBRATION, policy, request.settings.quantize, taken.entry)
        shipped, judge, compare = _shipped(request, store, quantizer, graph, folder, collected.has_labels)
        report = _report(request, store, quantizer, shipped, judge, compare)
        return _written(request, shipped, {**report, "fed": taken.report(), **collected.report})


Compare = Callable[[Path, Path], Comparison]
"""Two evaluations, the float parent's first."""


def _judge(request: Request, parent: Artifact, evaluator: Evaluator, measure: Measure, compare: Compare) -> Judge:
    """Return the judge of what may ship: by labels, by the classes of the float file, or by what it answers."""
    classes = measure.classes
    given = request.settings.budget.max_accuracy_drop
    by_labels = evaluator.has_labels and request.metric is None

    def words(candidates: Artifact, file: str) -> str:
        return _TOP1 if by_labels else f"% {compare(parent.path, evaluator(candidates.path / file).path).words}"

    return Judge(
        evaluator,
        parent,
        not by_labels,
        given if given is not None else request.target.budget.max_accuracy_drop,
        lambda one, other: compare(one, other).lost,
        drop=DROP if by_labels or len(judging.read(parent.path)) == len(classes) else DROP_OF_VARIANCE,
        chance=0.0 if request.metric is not None else _chance(parent, classes),
        measure=measure,
        words=words,
    )


def _chance(parent: Artifact, classes: tuple[str, ...]) -> float:
    answers = judging.read(parent.path)
    return max((1 / max(2, _width(answers[name])) for name in classes), default=0.0)


def _width(answers: NDArray[Any]) -> int:
    """Return how many scores a sample has, whatever shape the file declares."""
    return answers.size // max(1, len(answers))


def _shipped(
    request: Request, store: Store, quantizer: Quantizer, graph: Path, folder: Path, has_labels: bool
) -> tuple[Shipped, Judge, Compare]:
    classes = judging.classes_of(onnx.load(graph), request.task, has_labels)
    precision = request.target.precision_under(request.settings.quantize)
    fed = quantizer.entry
    if precision == "int8":
        candidates = quantizer.first()
        fed = settled.load(quantizer.repaired().path).entry
    else:
        samples = folder / CALIBRATION
        candidates = store.run(convert, graph=graph, samples=samples, entry=quantizer.entry, precision=precision)
    evaluator = Evaluator(request.target, fed, folder, has_labels)
    parent = evaluator(candidates.path / FLOAT)
    if has_labels and parent.metrics["top1"] < least_top1(_width(next(iter(judging.read(parent.path).values())))):
        store.say(
            f"the float file is right on {100 * parent.metrics['top1']:.1f} % of the images only: its classes are not "
            "the folders in their order, or --mean and --std are others; judged by agreement with it instead"
        )
        evaluator = replace(evaluator, has_labels=False)
    measure = Measure(classes, request.metric)

    @cache
    def compare(one: Path, other: Path) -> Comparison:
        return judging.compare(one, other, measure)

    judge = _judge(request, parent, evaluator, measure, compare)
    bench, target = request.settings.bench, request.target
    shipped = ship(store, bench, target, candidates, quantizer, judge, request.insist)
    shipped = replace(shipped, reason="as quantize.precision asks") if precision == "float" else shipped
    return shipped, judge, compare


def _report(
    request: Request, store: Store, quantizer: Quantizer, shipped: Shipped, judge: Judge, compare: Compare
) -> dict[str, Any]:
    repaired = quantizer.repaired() if shipped.file == INT8 else None
    cost = cost_of_float(request.settings.bench, request.target, shipped, quantizer if repaired else None)
    settings = exact_here(request.target, hosts.this(), 1)
    left = that_run(shipped.path, settings).in_float
    shares = profile.shares(shipped.path, settings, quantizer.fed()) if left and repaired else {}
    parent, final = judge.evaluate(shipped.parent), judge.evaluate(shipped.path)
    accuracy = {"float": parent.metrics["top1"], "shipped": final.metrics["top1"]}
    compared = compare(parent.path, final.path)
    return {
        "model": request.model.name,
        "target": request.target.name,
        "precision": shipped.precision,
        "shipped_because": shipped.reason,
        "samples_judged": parent.metrics["samples"],
        "top1": None if judge.val_was_seen else accuracy,
        "agreement_with_float": compared.agreement,
        "sqnr_db": compared.sqnr,
        "outputs": [_output(each) for each in compared.outputs],
        "measure": judge.words(shipped.candidates, shipped.file),
        "lost": judge.lost(shipped.candidates, shipped.file),
        "refused": _refused(shipped, judge, compare),
        "allowed": judge.allowed,
        "size_kb": {"float": _size(shipped.parent), "shipped": _size(shipped.path)},
        "operators_in_float": {name: {"count": count, "time": shares.get(name, 0.0)} for name, count in left.items()},
        "front": quantization.front_of(repaired),
        "quantization": quantization.of(shipped, repaired, cost, ()),
        "notes": quantization.notes(request.target, shipped, repaired, cost, ()),
    }


def _output(each: Difference) -> dict[str, Any]:
    channels = listed(each.channels) if each.channels else "all"
    return {"name": each.output, "kind": each.kind, "worst": channels, "lost": each.lost, "sqnr_db": to_db(each.noise)}


def _refused(shipped: Shipped, judge: Judge, compare: Compare) -> dict[str, Any] | None:
    """Return the report's entry for the int8 file that lies beside a float one; None where there is none."""
    if shipped.refused is None:
        return None
    parent, found = judge.evaluate(shipped.parent), judge.evaluate(shipped.refused)
    compared = compare(parent.path, found.path)
    return {"file": "int8.onnx", "lost": compared.lost, "outputs": [_output(each) for each in compared.outputs]}


def _size(file: Path) -> float:
    return file.stat().st_size / 1000


def _written(request: Request, shipped: Shipped, report: dict[str, Any]) -> Quantized:
    with replaced(request.folder) as part:
        shutil.copyfile(shipped.path, part / "model.onnx")
        if shipped.refused is not None:
            shutil.copyfile(shipped.refused, part / "int8.onnx")
        (part / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    allowed = report["allowed"]
    return Quantized(request.folder, report, missed=allowed is not None and report["lost"] > allowed)


def lines(result: Quantized) -> list[str]:
    """Return what was done as lines of text."""
    report = result.report
    size = report["size_kb"]
    text = [f"{report['model']} for {report['target']}: {report['precision']} ({report['shipped_because']})"]
    text.append(f"  {size['float']:.1f} kB float, {size['shipped']:.1f} kB {report['precision']}")
    text.append(f"  {fed_line(report['fed'])}")
    agreed, judged = report["agreement_with_float"], report["samples_judged"]
    noise = f"{report['sqnr_db']:.1f} dB signal to noise"
    same = f"agrees with its float parent on {100 * agreed:.2f} % of" if agreed is not None else "against its parent on"
    text.append(f"  {same} {judged} samples, {noise}")
    if report["top1"] is not None:
        found = report["top1"]
        text.append(f"  top-1 {100 * found['float']:.2f} % float, {100 * found['shipped']:.2f} % {report['precision']}")
    if report["refused"] is not None:
        lost = report["refused"]["lost"]
        text.append(f"  the int8 file lies beside it as int8.onnx ({100 * lost:.2f} % lost); --ship int8 ships it")
    if report["judged_on"] == CALIBRATED:
        text.append("  note: it is judged by the samples that it was calibrated on: there are no others")
    text += [f"  note: {note}" for note in report["notes"]]
    if report["front"].get("front_exact") is False:
        kept = 100 * report["front"]["front_agreement"]
        text.append(f"  note: normalisation is absorbed exactly but for the border: {kept:.2f} % keep their class")
    named = [f"{row['count']} {name} ({100 * row['time']:.1f} %)" for name, row in report["operators_in_float"].items()]
    if named and report["precision"] == "int8":
        text.append(f"  in float after onnxruntime's optimisation, of the time: {', '.join(named)}")
    if report["allowed"] is not None:
        state = "missed" if result.missed else "met"
        text.append(
            f"  budget {state}: max_accuracy_drop asked {report['allowed']:.4g}, got {report['lost']:.4g} "
            f"({report['measure'].removeprefix('% ')})"
        )
    return text
