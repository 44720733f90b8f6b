"""The order of the stages. Read this first.

`chain.py` is the torch half, shared by all targets; `compilation.py` the ONNX half, shared by targets that ask for
the same; `build` runs both, measures, picks, judges and writes a bundle a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekd import host as hosts
from edgekd import target as shipped_targets
from edgekd.beside import check_writable
from edgekd.bundle import write as bundle
from edgekd.bundle.write import Contents
from edgekd.chain import chain
from edgekd.compilation import compile_for, evaluated, exported, quantizer_of
from edgekd.errors import DivergedError, EdgekdError, ModelError, TargetError, did_you_mean
from edgekd.evaluate.stage import agree
from edgekd.outcome import Judged, report_on
from edgekd.products import Graphs, Networks
from edgekd.project import Project, check_utf8, open_project
from edgekd.quantize.stage import INT8
from edgekd.quantizing import Quantizer
from edgekd.recipe import Recipe
from edgekd.ref import Ref
from edgekd.rehearse import rehearsal_of
from edgekd.report.contents import Report
from edgekd.run import Run
from edgekd.runtime import check_provider, exact_here
from edgekd.ship import Judge, Shipped, cost_of_float, ship
from edgekd.store import Artifact, PlanEndsError, Store
from edgekd.target import Target
from edgekd.train.device import Place, resolve
from edgekd.workload.stage import draw, prepare

STAGES = (
    "prepare", "initialise", "teacher", "teach", "distill", "prune", "recover",
    "export", "simplify", "repair", "calibrate", "finetune", "sensitivity", "convert", "quantize", "evaluate", "ship",
)  # fmt: skip
TRAINING = frozenset({"teacher", "teach", "distill", "recover"})


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
    insist: bool = False,
) -> Build:
    """Build a recipe for one or several targets: what the command `edgekd build` does. Raises EdgekdError.

    With `insist` int8 ships whatever it loses or takes, as --ship int8 asks.
    """
    request = replace(_request(recipe, targets, out, store), insist=insist)
    stages = Store(request.store, run, _from(from_stage))
    check_writable(request.out)
    place = resolve(request.project.recipe.compute)
    data = _prepare(stages, request.project)
    _rehearse(request, place, data, run or Run())
    networks = chain(stages, request.project, place, data, request.targets[0])
    built = [_build_for(stages, request, networks, target, place) for target in request.targets]
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
        place = resolve(request.project.recipe.compute)
        networks = chain(stages, request.project, place, data, request.targets[0])
        for target in request.targets:
            graphs = compile_for(stages, request.project, networks, target, place)
            _ship(stages, request, networks, graphs, target)
    except PlanEndsError:
        say("everything after that runs too, on what those stages make")
    say("bench and bundle always run")


@dataclass(frozen=True)
class _Request:
    project: Project
    targets: tuple[Target, ...]
    out: Path
    store: Path
    insist: bool = False


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
    if out is not None:
        check_utf8(out)
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


def _will_train(request: _Request, place: Place, data: Artifact) -> bool:
    probe = Store(request.store, plan=True)
    try:
        chain(probe, request.project, place, data, request.targets[0])
    except PlanEndsError:
        return True  # a budget of time is yet to become a number of epochs
    return bool(TRAINING & set(probe.missed))


def _rehearse(request: _Request, place: Place, data: Artifact, run: Run) -> None:
    """When a training is going to run, run the whole chain on a few images first, without training to speak of."""
    if not _will_train(request, place, data):
        return
    run.say("rehearsal: all stages on 8 images, so that what cannot be exported shows before the training")
    with rehearsal_of(request.project, data) as (project, few, folder):
        store = Store(folder)
        try:
            networks = chain(store, project, place, few, request.targets[0])
        except DivergedError as error:
            # Its own learning rate is next to nothing: what it says of that is not what the recipe can change.
            raise ModelError(
                f"a first step without learning fails: {error.message.partition(' at step')[0]}",
                "suspects: the weights of teacher and student, and the weights and temperatures of the losses",
            ) from None
        for target in request.targets:
            compile_for(store, project, networks, target, place)


def _quantizer(store: Store, project: Project, networks: Networks, graphs: Graphs, target: Target) -> Quantizer | None:
    if graphs.repaired is None:
        return None
    tuned = graphs.tuned.path if graphs.tuned is not None else None
    samples = networks.data.path / "calibration"
    return quantizer_of(store, project.recipe, graphs.simplified.path, samples, target, tuned)


def _ship(store: Store, request: _Request, networks: Networks, graphs: Graphs, target: Target) -> Shipped:
    """Pick what is shipped, on validation."""
    project = request.project
    val = networks.data.path / "val"
    teacher = evaluated(store, graphs.teacher.path, val, None)
    seen = networks.data.metrics["val_from_train"] and (project.start_saw_train or project.teacher_saw_train)
    allowed = project.recipe.budget.over(target.budget).max_accuracy_drop
    chance = 1 / len(networks.data.metrics["classes"])
    judge = Judge(lambda file: evaluated(store, file, val, target), teacher, seen, allowed, chance=chance)
    quantizer = _quantizer(store, project, networks, graphs, target)
    candidates = graphs.candidates
    if quantizer is not None and graphs.tuned is not None:
        tuned = quantizer.first()
        # Fine-tuning that made things worse is not shipped.
        if judge.lost(tuned, INT8) <= judge.lost(candidates, INT8):
            candidates = tuned
    return ship(store, project.recipe.bench, target, candidates, quantizer, judge, request.insist)


def _build_for(store: Store, request: _Request, networks: Networks, target: Target, place: Place) -> Built:
    """Run, measure, judge and bundle for one target. Test is looked at here, once everything is fixed."""
    project = request.project
    graphs = compile_for(store, project, networks, target, place)
    shipped = _ship(store, request, networks, graphs, target)
    test = networks.data.path / "test"
    model = shipped.path
    files = {"teacher": graphs.teacher.path, "student": graphs.student.path}
    files |= {"pruned": graphs.exported.path} if project.recipe.prune else {}
    files |= {"simplified": graphs.simplified.path, shipped.precision: model}
    if project.recipe.student is None:
        del files["student"]
    measured = {
        stage: (file, evaluated(store, file, test, target if file == model else None)) for stage, file in files.items()
    }
    over_seeds = {row: _over_seeds(store, project, found, test, target) for row, found in networks.over_seeds.items()}
    quantizer = _quantizer(store, project, networks, graphs, target)
    cost = cost_of_float(project.recipe.bench, target, shipped, quantizer)
    study = _study(store, project, networks, graphs, target)
    report = report_on(Judged(project, networks, graphs, target, shipped, measured, over_seeds, cost, study))
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
        refused=shipped.refused,
    )
    bundle.write(contents, folder)
    return Built(folder, report)


def _study(
    store: Store, project: Project, networks: Networks, graphs: Graphs, target: Target
) -> tuple[dict[str, float], ...]:
    """Quantize with other draws of calibration images; return what each makes of validation."""
    config = project.recipe.quantize
    if config is None or not config.study or graphs.repaired is None:
        return ()
    data = networks.data.path
    parent = evaluated(store, graphs.simplified.path, data / "val", None)
    found = []
    for number in range(config.study):
        seed = project.recipe.data.seed + 1 + number
        drawn = store.run(draw, train=data / "train", count=project.samples, seed=seed)
        candidates = quantizer_of(store, project.recipe, graphs.simplified.path, drawn.path, target).first()
        int8 = evaluated(store, candidates.path / INT8, data / "val", target)
        found.append({"top1": float(int8.metrics["top1"]), "agreement": agree(parent.path, int8.path)})
    return tuple(found)


def _over_seeds(
    store: Store, project: Project, networks: Sequence[Artifact], test: Path, target: Target
) -> list[float]:
    """Return the accuracy on test of one network a seed, as the target's float graph; empty where there is one seed."""
    if len(networks) < 2:
        return []
    calibration = test.with_name("calibration")
    # In the target's opset the first seed's graph is there already, and measured.
    opset, ir = target.runtime.opset, target.runtime.ir
    graphs = [exported(store, network, project, calibration, opset, ir).path for network in networks]
    return [float(evaluated(store, graph, test, None).metrics["top1"]) for graph in graphs]
