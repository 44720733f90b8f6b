"""The ONNX half of a build: graphs exported, simplified, quantized and evaluated, for one target."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgekd import host as hosts
from edgekd.evaluate.stage import evaluate
from edgekd.export.stage import export, simplify
from edgekd.products import Graphs, Networks
from edgekd.project import Project
from edgekd.quantize.stage import quantize
from edgekd.recipe import Recipe
from edgekd.runtime import Settings, exact_here
from edgekd.store import Artifact, Store
from edgekd.target import Target


def compile_for(store: Store, project: Project, networks: Networks, target: Target) -> Graphs:
    """Run the ONNX stages for one target; targets with equal arguments share them."""
    samples = networks.data.path / "calibration"
    opset, ir = target.runtime.opset, target.runtime.ir
    teacher = exported(store, networks.teacher, project, samples, opset, ir, of_teacher=True)
    student = exported(store, networks.student, project, samples, opset, ir)
    final = exported(store, networks.final, project, samples, opset, ir)
    simplified = store.run(simplify, graph=final.path, samples=samples)
    return Graphs(teacher, student, final, simplified, _quantized(store, project, simplified, samples, target))


def compiled(store: Store, project: Project, network: Artifact, samples: Path, target: Target) -> Artifact:
    """Return the candidates for shipping of one network."""
    graph = exported(store, network, project, samples, target.runtime.opset, target.runtime.ir)
    simplified = store.run(simplify, graph=graph.path, samples=samples)
    return _quantized(store, project, simplified, samples, target)


def shipped_precision(recipe: Recipe, target: Target) -> Literal["int8", "fp16", "float"]:
    """Return what a target's file is to be, by the recipe's word."""
    wanted = recipe.quantize is not None and recipe.quantize.precision == "auto"
    return target.precision if wanted else "float"


def _quantized(store: Store, project: Project, graph: Artifact, samples: Path, target: Target) -> Artifact:
    precision = shipped_precision(project.recipe, target)
    policy = target.int8 if precision == "int8" else None
    return store.run(quantize, graph=graph.path, samples=samples, policy=policy, precision=precision)


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
