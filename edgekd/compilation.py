"""The ONNX half of a build: graphs exported, simplified, quantized and evaluated, for one target."""

from __future__ import annotations

from pathlib import Path

from edgekd import host as hosts
from edgekd.evaluate.stage import evaluate
from edgekd.export.stage import export, simplify
from edgekd.products import Graphs, Networks
from edgekd.project import Project
from edgekd.quantize.stage import convert
from edgekd.quantizing import Quantizer
from edgekd.recipe import Precision, Quantize, Recipe
from edgekd.runtime import Settings, exact_here
from edgekd.store import Artifact, Store
from edgekd.target import Int8, Target


def compile_for(store: Store, project: Project, networks: Networks, target: Target) -> Graphs:
    """Run the ONNX stages for one target; targets with equal arguments share them."""
    samples = networks.data.path / "calibration"
    opset, ir = target.runtime.opset, target.runtime.ir
    teacher = exported(store, networks.teacher, project, samples, opset, ir, of_teacher=True)
    student = exported(store, networks.student, project, samples, opset, ir)
    final = exported(store, networks.final, project, samples, opset, ir)
    simplified = store.run(simplify, graph=final.path, samples=samples)
    repaired = None
    if shipped_precision(project.recipe, target) == "int8":
        repaired = quantizer_of(store, project.recipe, simplified.path, samples, target).repaired()
    candidates = _quantized(store, project, simplified, samples, target)
    return Graphs(teacher, student, final, simplified, repaired, candidates)


def compiled(store: Store, project: Project, network: Artifact, samples: Path, target: Target) -> Artifact:
    """Return the candidates for shipping of one network."""
    graph = exported(store, network, project, samples, target.runtime.opset, target.runtime.ir)
    simplified = store.run(simplify, graph=graph.path, samples=samples)
    return _quantized(store, project, simplified, samples, target)


def shipped_precision(recipe: Recipe, target: Target) -> Precision:
    """Return what a target's file is to be, by the recipe's word or, where it leaves that open, the target's."""
    if recipe.quantize is None:
        return "float"
    return target.precision if recipe.quantize.precision == "auto" else recipe.quantize.precision


def quantizer_of(store: Store, recipe: Recipe, graph: Path, samples: Path, target: Target) -> Quantizer:
    """Return what makes int8 candidates of a simplified graph for a target."""
    config = recipe.quantize or Quantize()
    return Quantizer(store, graph, samples, (target.int8 or Int8()).under(config), config)


def _quantized(store: Store, project: Project, graph: Artifact, samples: Path, target: Target) -> Artifact:
    precision = shipped_precision(project.recipe, target)
    if precision == "int8":
        return quantizer_of(store, project.recipe, graph.path, samples, target).first()
    return store.run(convert, graph=graph.path, precision=precision)


def exported(
    store: Store, network: Artifact, project: Project, samples: Path, opset: int, ir: int, of_teacher: bool = False
) -> Artifact:
    """Return a network as a float graph."""
    code = project.teacher if of_teacher else project.student
    return store.run(export, start=network.path, code=code, samples=samples, opset=opset, ir=ir)


def evaluated(store: Store, graph: Path, split: Path, target: Target | None) -> Artifact:
    """Evaluate as the target will answer (None: a float graph), on all cores of this host."""
    here = hosts.this()
    settings = exact_here(target, here, here.cores) if target else Settings(threads=here.cores)
    wide = "avx512" if any(flag.startswith("avx512") for flag in here.instructions) else here.architecture
    return store.run(evaluate, graph=graph, split=split, settings=settings, instructions=f"{wide} {here.saturates}")
