"""The ONNX half of a build: graphs exported, simplified, quantized and evaluated, for one target."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgekd import host as hosts
from edgekd.distill.finetune import finetune
from edgekd.errors import ModelError
from edgekd.evaluate.stage import evaluate
from edgekd.export.stage import export, simplify
from edgekd.products import Graphs, Networks
from edgekd.project import Project, with_selection
from edgekd.quantize.grid import weight_levels
from edgekd.quantize.stage import convert
from edgekd.quantizing import Quantizer
from edgekd.recipe import Precision, Quantize, Recipe
from edgekd.runtime import Settings, exact_here
from edgekd.stage import Artifact
from edgekd.store import Store
from edgekd.target import Target
from edgekd.train.device import Place

Exported = Literal["teacher", "student", "pruned", "cut"]
"""Which network a graph is of; a cut one may still be cut again."""


def compile_for(store: Store, project: Project, networks: Networks, target: Target, place: Place) -> Graphs:
    """Run the ONNX stages for one target; targets with equal arguments share them."""
    samples = networks.data.path / "calibration"
    opset, ir = target.runtime.opset, target.runtime.ir
    teacher = exported(store, networks.teacher, project, samples, opset, ir, "teacher")
    student = exported(store, networks.student, project, samples, opset, ir, "student")
    final = exported(store, networks.final, project, samples, opset, ir, "pruned" if networks.cuts else "student")
    simplified = store.run(simplify, graph=final.path, samples=samples)
    if shipped_precision(project.recipe, target) != "int8":
        candidates = _quantized(store, project, simplified, samples, target)
        return Graphs(teacher, student, final, simplified, None, None, candidates)
    quantizer = quantizer_of(store, project.recipe, simplified.path, samples, target)
    tuned = _tuned(store, project, networks, quantizer, place)
    return Graphs(teacher, student, final, simplified, quantizer.repaired(), tuned, quantizer.first())


def _tuned(store: Store, project: Project, networks: Networks, quantizer: Quantizer, place: Place) -> Artifact | None:
    config = project.recipe.finetune
    if config is None:
        return None
    if quantizer.policy.weights != "int8":
        raise ModelError(
            f"[finetune] rounds weights to int8, and they are to be {quantizer.policy.weights}",
            "leave out [finetune], or quantize.weights",
        )
    selects = project.selects(networks.data.metrics["val_from_train"])
    policy = quantizer.policy
    return store.run(
        finetune, repaired=quantizer.repaired().path, grids=quantizer.grids(), levels=weight_levels(policy)[1],
        per_channel=policy.per_channel, in_float=quantizer.in_float(), normalisation=quantizer.normalisation(),
        teacher=networks.teacher.path, teacher_code=project.teacher, train=networks.data.path / "train",
        val=networks.data.path / "val",
        config=with_selection(config, selects), place=place,
    )  # fmt: skip


def compiled(store: Store, project: Project, network: Artifact, samples: Path, target: Target) -> Artifact:
    """Return the candidates for shipping of one network."""
    graph = exported(store, network, project, samples, target.runtime.opset, target.runtime.ir, "cut")
    simplified = store.run(simplify, graph=graph.path, samples=samples)
    return _quantized(store, project, simplified, samples, target)


def shipped_precision(recipe: Recipe, target: Target) -> Precision:
    """Return what a target's file is to be, by the recipe's word or, where it leaves that open, the target's."""
    return "float" if recipe.quantize is None else target.precision_under(recipe.quantize)


def quantizer_of(
    store: Store, recipe: Recipe, graph: Path, samples: Path, target: Target, tuned: Path | None = None
) -> Quantizer:
    """Return what makes int8 candidates of a simplified graph for a target."""
    config = recipe.quantize or Quantize()
    return Quantizer(store, graph, samples, target.policy_under(config), config, tuned=tuned)


def _quantized(store: Store, project: Project, graph: Artifact, samples: Path, target: Target) -> Artifact:
    precision = shipped_precision(project.recipe, target)
    if precision == "int8":
        return quantizer_of(store, project.recipe, graph.path, samples, target).first()
    return store.run(convert, graph=graph.path, samples=samples, entry=None, precision=precision)


def exported(
    store: Store, network: Artifact, project: Project, samples: Path, opset: int, ir: int, subject: Exported
) -> Artifact:
    """Return a network as a float graph."""
    code = project.teacher if subject == "teacher" else project.student
    return store.run(export.of(subject), start=network.path, code=code, samples=samples, opset=opset, ir=ir)


def evaluated(store: Store, graph: Path, split: Path, target: Target | None, subject: str) -> Artifact:
    """Evaluate as the target will answer (None: a float graph), on all cores of this host."""
    here = hosts.this()
    settings = exact_here(target, here, here.cores) if target else Settings(threads=here.cores)
    answering = evaluate.of(f"{subject} on {split.name}")
    return store.run(answering, graph=graph, split=split, settings=settings, instructions=hosts.arithmetic())
