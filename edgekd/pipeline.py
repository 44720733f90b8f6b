"""The order of the stages. Read this first.

`chain` is the torch half, shared by all targets; `compile_for` the ONNX half, shared by targets that ask for the
same; `build` runs both, measures, picks, judges and writes a bundle a target.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekd import host as hosts
from edgekd import target as shipped_targets
from edgekd.bundle import write as bundle
from edgekd.bundle.write import Contents
from edgekd.distill.stage import distill, recover, train_teacher
from edgekd.errors import EdgekdError, ModelError, TargetError, did_you_mean
from edgekd.evaluate.stage import evaluate
from edgekd.export.stage import export, simplify
from edgekd.models.stage import initialise
from edgekd.outcome import Judged, report_on
from edgekd.products import Graphs, Networks
from edgekd.project import Project, bare, open_project, with_selection
from edgekd.prune.stage import prune
from edgekd.quantize.stage import quantize
from edgekd.recipe import Distill, Recipe
from edgekd.ref import Ref
from edgekd.rehearse import rehearsal_of
from edgekd.report.contents import Report
from edgekd.run import Run
from edgekd.runtime import Settings, check_provider, exact_here
from edgekd.ship import Shipped, ship
from edgekd.store import Artifact, PlanEndsError, Store
from edgekd.target import Target
from edgekd.train.device import Place, resolve
from edgekd.workload.stage import prepare

STAGES = (
    "prepare", "initialise", "teacher", "distill", "prune", "recover",
    "export", "simplify", "quantize", "evaluate", "ship",
)  # fmt: skip
TRAINING = frozenset({"teacher", "distill", "recover"})


@dataclass(frozen=True)
class Built:
    """One bundle and what it reached."""

    folder: Path
    report: Report


@dataclass(frozen=True)
class Build:
    """What `edgekd build` wrote, a bundle a target."""

    bundles: tuple[Built, ...]

    @property
    def exit_code(self) -> int:
        """0 fine, 3 a budget missed."""
        return 3 if any(built.report.missed for built in self.bundles) else 0


def build(
    recipe: Recipe | Path | str,
    targets: Sequence[Target | str] = ("cpu",),
    out: Path | None = None,
    store: Path | None = None,
    from_stage: str = "",
    run: Run | None = None,
) -> Build:
    """Build a recipe for one or several targets: what the command `edgekd build` does. Raises EdgekdError."""
    request = _request(recipe, targets, out, store)
    stages = Store(request.store, run, _from(from_stage))
    bundle.check_writable(request.out)
    place = resolve(request.project.recipe.compute)
    data = _prepare(stages, request.project)
    _rehearse(request, place, data, run or Run())
    networks = chain(stages, request.project, place, data)
    built = [_build_for(stages, request, networks, target) for target in request.targets]
    return Build(tuple(built))


def plan(
    recipe: Recipe | Path | str,
    targets: Sequence[Target | str] = ("cpu",),
    store: Path | None = None,
    from_stage: str = "",
    run: Run | None = None,
) -> None:
    """Say of each stage whether it would run and why, and run nothing. Raises EdgekdError."""
    request = _request(recipe, targets, None, store)
    say = (run or Run()).say
    stages = Store(request.store, run, _from(from_stage), plan=True)
    try:
        data = _prepare(stages, request.project)
        networks = chain(stages, request.project, resolve(request.project.recipe.compute), data)
        for target in request.targets:
            graphs = compile_for(stages, request.project, networks, target)
            _ship(stages, request.project, networks, graphs, target)
    except PlanEndsError:
        say("everything after that runs too, on what those stages make")
    say("bench and bundle always run")


def chain(store: Store, project: Project, place: Place, data: Artifact) -> Networks:
    """Run the torch stages. The teacher is checked before anything trains under it."""
    recipe = project.recipe
    classes, shape = len(store.metrics(data)["classes"]), recipe.data.shape
    train, val = data.path / "train", data.path / "val"
    teacher = store.run(
        initialise, code=project.teacher, weights=project.teacher_weights, config=bare(recipe.teacher),
        classes=classes, shape=shape, seed=recipe.teacher.train.seed,
    )  # fmt: skip
    student = teacher
    if recipe.student is not None:
        student = store.run(
            initialise, code=project.student, weights=project.student_weights, config=bare(recipe.student),
            classes=classes, shape=shape, seed=recipe.distill.seed if recipe.distill else 0,
        )  # fmt: skip
    unseen = not (project.start_saw_train and store.metrics(data)["val_from_train"])
    if not recipe.teacher.weights:
        teacher = store.run(
            train_teacher, start=teacher.path, code=project.teacher, train=train, val=val,
            config=with_selection(recipe.teacher.train, True), place=place,
        )  # fmt: skip
    _check_teacher(store, project, data, teacher)
    if recipe.student is None:
        student = teacher
    if recipe.distill is not None:
        student = store.run(
            distill, start=student.path, code=project.student, teacher=teacher.path, teacher_code=project.teacher,
            train=train, val=val, config=with_selection(recipe.distill, unseen), place=place,
        )  # fmt: skip
    if recipe.prune is None:
        return Networks(data, teacher, student, student, student)
    # The cut does not depend on how it is recovered from: another recovery does not cut again.
    settings = recipe.prune.model_copy(update={"recovery": Distill()})
    pruned = store.run(prune, start=student.path, code=project.student, train=train, config=settings, place=place)
    final = store.run(
        recover, start=pruned.path, code=project.student, teacher=teacher.path, teacher_code=project.teacher,
        train=train, val=val, config=with_selection(recipe.prune.recovery, unseen), place=place,
    )  # fmt: skip
    return Networks(data, teacher, student, pruned, final)


def compile_for(store: Store, project: Project, networks: Networks, target: Target) -> Graphs:
    """Run the ONNX stages for one target; targets with equal arguments share them."""
    samples = networks.data.path / "calibration"
    opset, ir = target.runtime.opset, target.runtime.ir
    teacher = _export(store, networks.teacher, project, samples, opset, ir, of_teacher=True)
    student = _export(store, networks.student, project, samples, opset, ir)
    exported = _export(store, networks.final, project, samples, opset, ir)
    simplified = store.run(simplify, graph=exported.path, samples=samples)
    wanted = project.recipe.quantize is not None and project.recipe.quantize.precision == "auto"
    precision = target.precision if wanted else "float"
    policy = target.int8 if precision == "int8" else None
    candidates = store.run(quantize, graph=simplified.path, samples=samples, policy=policy, precision=precision)
    return Graphs(teacher, student, exported, simplified, candidates)


@dataclass(frozen=True)
class _Request:
    project: Project
    targets: tuple[Target, ...]
    out: Path
    store: Path


def _request(
    recipe: Recipe | Path | str, targets: Sequence[Target | str], out: Path | None, store: Path | None
) -> _Request:
    """Check all that can be checked before any work."""
    from edgekd import recipe as recipes  # noqa: PLC0415 - the name is a parameter here

    if store is not None and store.exists() and not store.is_dir():
        raise EdgekdError(f"the store {store} is not a folder", "name a folder with --store")
    if isinstance(targets, str):
        targets = (targets,)
    loaded = recipe if isinstance(recipe, Recipe) else recipes.load(Path(recipe))
    found = tuple(target if isinstance(target, Target) else shipped_targets.load(target) for target in targets)
    for target in found:
        if sum(other.name == target.name for other in found) > 1:
            raise TargetError(f'two targets are named "{target.name}"', "their bundles would overwrite each other")
        if hosts.why_not(target.device, hosts.this()) is None:
            check_provider(target.runtime.providers[0])
    where = store or loaded.folder / ".edgekd"
    return _Request(open_project(loaded, where), found, out or Path("dist"), where)


def _from(stage: str) -> frozenset[str]:
    """Return the stages from one on, by the pipeline's order."""
    if not stage:
        return frozenset()
    if stage not in STAGES:
        raise EdgekdError(
            f'--from: unknown stage "{stage}"', f"{did_you_mean(stage, STAGES)}stages: {', '.join(STAGES)}"
        )
    return frozenset(STAGES[STAGES.index(stage) :])


def _prepare(store: Store, project: Project) -> Artifact:
    if isinstance(project.source, Ref):
        store.repeat("prepare", "a function may give other images each time")
    # Where the images lie is not what they are: their content is hashed.
    config = project.recipe.data.model_copy(update={"path": "", "val": ""})
    return store.run(prepare, source=project.source, val=project.val, config=config, calibration=project.samples)


def _rehearse(request: _Request, place: Place, data: Artifact, run: Run) -> None:
    """When a training is going to run, run the whole chain on a few images first, without training to speak of."""
    probe = Store(request.store, plan=True)
    with contextlib.suppress(PlanEndsError):
        chain(probe, request.project, place, data)
    if not TRAINING & set(probe.missed):
        return
    run.say("rehearsal: all stages on 8 images, so that what cannot be exported shows before the training")
    with rehearsal_of(request.project, data) as (project, few, folder):
        store = Store(folder)
        networks = chain(store, project, place, few)
        for target in request.targets:
            compile_for(store, project, networks, target)


def _check_teacher(store: Store, project: Project, data: Artifact, teacher: Artifact) -> None:
    """Measure the teacher on validation before anything trains. Raises ModelError when it is far too low."""
    if project.rehearsal:
        return
    graph = _export(store, teacher, project, data.path / "calibration", 18, 8, of_teacher=True)
    measured = _evaluate(store, graph.path, data.path / "val", None).metrics
    if not measured:
        return  # only planned
    chance = 1 / len(store.metrics(data)["classes"])
    asked = project.recipe.teacher.min_teacher
    least = asked if asked is not None else min(3 * chance, (1 + chance) / 2)
    if measured["top1"] < least:
        raise ModelError(
            f"the teacher is right on {100 * measured['top1']:.1f} % of the validation images, "
            f"less than {100 * least:.1f} %",
            "suspects: the order of the classes (data.labels), mean and std, RGB against BGR; or lower min_teacher",
        )


def _export(
    store: Store, network: Artifact, project: Project, samples: Path, opset: int, ir: int, of_teacher: bool = False
) -> Artifact:
    code = project.teacher if of_teacher else project.student
    return store.run(export, start=network.path, code=code, samples=samples, opset=opset, ir=ir)


def _evaluate(store: Store, graph: Path, split: Path, target: Target | None) -> Artifact:
    """Evaluate as the target will answer (None: a float graph), on all cores of this host."""
    here = hosts.this()
    settings = exact_here(target, here, here.cores) if target else Settings(threads=here.cores)
    wide = "avx512" if any(flag.startswith("avx512") for flag in here.instructions) else here.architecture
    return store.run(evaluate, graph=graph, split=split, settings=settings, instructions=f"{wide} {here.saturates}")


def _ship(store: Store, project: Project, networks: Networks, graphs: Graphs, target: Target) -> Shipped:
    """Pick what is shipped, on validation."""
    val = networks.data.path / "val"
    names = store.metrics(graphs.candidates)["candidates"]
    logits = {name: _evaluate(store, graphs.candidates.path / name, val, target) for name in names}
    teacher = _evaluate(store, graphs.teacher.path, val, None)
    seen = networks.data.metrics["val_from_train"] and (project.start_saw_train or project.teacher_saw_train)
    return ship(store, project.recipe, target, graphs.candidates.path, logits, teacher, val_was_seen=seen)


def _build_for(store: Store, request: _Request, networks: Networks, target: Target) -> Built:
    """Run, measure, judge and bundle for one target. Test is looked at here, once everything is fixed."""
    project = request.project
    graphs = compile_for(store, project, networks, target)
    shipped = _ship(store, project, networks, graphs, target)
    test = networks.data.path / "test"
    model = graphs.candidates.path / shipped.file
    files = {"teacher": graphs.teacher.path, "student": graphs.student.path}
    files |= {"pruned": graphs.exported.path} if project.recipe.prune else {}
    files |= {"simplified": graphs.simplified.path, shipped.precision: model}
    if project.recipe.student is None:
        del files["student"]
    evaluated = {
        stage: (file, _evaluate(store, file, test, target if file == model else None)) for stage, file in files.items()
    }
    report = report_on(Judged(project, networks, graphs, target, shipped, evaluated))
    folder = request.out / f"{project.recipe.name}-{target.name}"
    contents = Contents(
        name=project.recipe.name,
        model=model,
        precision=shipped.precision,
        classes=tuple(networks.data.metrics["classes"]),
        target=target,
        test=test,
        exact_here=exact_here(target, hosts.this(), 1),
        report=report.model_dump_json(indent=1) + "\n",
    )
    bundle.write(contents, folder)
    return Built(folder, report)
