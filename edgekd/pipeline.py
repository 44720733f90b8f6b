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
from edgekd.cautions import cautions, counts
from edgekd.chain import chain
from edgekd.compilation import compile_for, evaluated, exported, quantizer_of
from edgekd.errors import DivergedError, EdgekdError, ModelError, RecipeError, TargetError
from edgekd.evaluate.stage import agree
from edgekd.outcome import Judged, report_on
from edgekd.products import Graphs, Networks, SeedsRow
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
from edgekd.stage import Artifact, PlanEndsError
from edgekd.stages import STAGES, stages_from
from edgekd.store import Store
from edgekd.target import Target
from edgekd.train.device import Place, resolve
from edgekd.workload.stage import draw, prepare


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
    targets: Target | str | Sequence[Target | str] = ("cpu",),
    out: Path | str | None = None,
    store: Path | str | None = None,
    from_stage: str = "",
    run: Run | None = None,
    insist: bool = False,
    overrides: Sequence[str] = (),
) -> Build:
    """Build a recipe for one or several targets: what the command `edgekd build` does. Raises EdgekdError.

    With `insist` int8 ships whatever it loses or takes, as --ship int8 asks. `overrides` are those of --set, such as
    "distill.epochs=5", for a recipe that is read from its file.
    """
    request = replace(_request(_loaded(recipe, overrides), targets, out, store), insist=insist)
    fresh = stages_from(from_stage)
    stages = Store(request.store, run, fresh)
    check_writable(request.out, [f"{request.project.recipe.name}-{target.name}" for target in request.targets])
    place = resolve(request.project.recipe.compute)
    data = _prepare(stages, request.project)
    _rehearse(request, place, data, fresh, run or Run())
    networks = chain(stages, request.project, place, data, request.targets[0])
    built = [_build_for(stages, request, networks, target, place) for target in request.targets]
    return Build(tuple(built))


def plan(
    recipe: Recipe | Path | str,
    targets: Target | str | Sequence[Target | str] = ("cpu",),
    store: Path | str | None = None,
    from_stage: str = "",
    run: Run | None = None,
) -> None:
    """Say of each stage whether it would run and why, and run nothing. Raises EdgekdError."""
    request = _request(_loaded(recipe), targets, None, store)
    say = (run or Run()).say
    stages = Store(request.store, run, stages_from(from_stage), plan=True)
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


def _loaded(recipe: Recipe | Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe as it was given, or read from its file with overrides."""
    from edgekd import recipe as recipes  # noqa: PLC0415 - the name is a parameter here

    if isinstance(overrides, str):
        overrides = (overrides,)
    if not isinstance(recipe, Recipe):
        return recipes.load(Path(recipe), overrides)
    if overrides:
        raise RecipeError(
            f'overrides of a Recipe that is read already: "{overrides[0]}"',
            "give build the recipe's folder, or the overrides to edgekd.recipe.load",
        )
    return recipe


def _request(
    recipe: Recipe, targets: Target | str | Sequence[Target | str], out: Path | str | None, store: Path | str | None
) -> _Request:
    """Check all that can be checked before any work."""
    where = recipe.folder / ".edgekd" if store is None else Path(store)
    if where.exists() and not where.is_dir():
        raise EdgekdError(f"the store {where} is not a folder", "name a folder with --store")
    if isinstance(targets, Target | str):
        targets = (targets,)
    if not targets:
        raise TargetError("no target is named", 'name at least one, such as targets="cpu"')
    found = tuple(target if isinstance(target, Target) else shipped_targets.load(target) for target in targets)
    for target in found:
        if sum(other.name == target.name for other in found) > 1:
            raise TargetError(f'two targets are named "{target.name}"', "their bundles would overwrite each other")
        if hosts.why_not(target.device, hosts.this()) is None:
            check_provider(target.runtime.providers[0])
    if out is not None:
        check_utf8(Path(out))
    return _Request(open_project(recipe, where), found, Path(out or "dist"), where)


def _prepare(store: Store, project: Project) -> Artifact:
    if isinstance(project.source, Ref):
        store.repeat("prepare", "a function may give other images each time")
    # Where the images lie is not what they are: their content is hashed.
    config = project.recipe.data.model_copy(update={"path": "", "val": ""})
    data = store.run(prepare, source=project.source, val=project.val, config=config, calibration=project.samples)
    if data.measured is not None:
        project.check_samples(data.metrics["images"]["calibration"])
        for line in cautions(project.recipe, counts(data.path / "train", data.metrics["classes"])):
            store.say(f"warning: {line}")
    return data


def _will_train(request: _Request, place: Place, data: Artifact, fresh: frozenset[str]) -> bool:
    """Whether a training is going to run; where a plan ends before it can say so, it is."""
    probe = Store(request.store, fresh=fresh, plan=True)
    try:
        networks = chain(probe, request.project, place, data, request.targets[0])
        if request.project.recipe.finetune is not None:
            for target in request.targets:
                compile_for(probe, request.project, networks, target, place)
    except PlanEndsError:
        return True
    return bool({each.name for each in STAGES if each.trains} & set(probe.missed))


def _rehearse(request: _Request, place: Place, data: Artifact, fresh: frozenset[str], run: Run) -> None:
    """When a training is going to run, run the whole chain on a few images first, without training to speak of."""
    if not _will_train(request, place, data, fresh):
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
    teacher = evaluated(store, graphs.teacher.path, val, None, "teacher")
    seen = networks.data.metrics["val_from_train"] and (project.start_saw_train or project.teacher_saw_train)
    allowed = project.recipe.budget.over(target.budget).max_accuracy_drop
    chance = 1 / len(networks.data.metrics["classes"])
    judge = Judge(lambda file: evaluated(store, file, val, target, file.stem), teacher, seen, allowed, chance=chance)
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
        stage: (file, evaluated(store, file, test, target if file == model else None, stage))
        for stage, file in files.items()
    }
    over_seeds: dict[str, list[float]] = {
        row: _over_seeds(store, project, row, found, test, target) for row, found in networks.over_seeds
    }
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
    data, count = networks.data.path, networks.data.metrics["images"]["calibration"]
    parent = evaluated(store, graphs.simplified.path, data / "val", None, "float")
    found = []
    for number in range(config.study):
        seed = project.recipe.data.seed + 1 + number
        drawn = store.run(draw, train=data / "train", count=count, seed=seed)
        candidates = quantizer_of(store, project.recipe, graphs.simplified.path, drawn.path, target).first()
        int8 = evaluated(store, candidates.path / INT8, data / "val", target, "int8")
        found.append({"top1": float(int8.metrics["top1"]), "agreement": agree(parent.path, int8.path)})
    return tuple(found)


def _over_seeds(
    store: Store, project: Project, row: SeedsRow, networks: Sequence[Artifact], test: Path, target: Target
) -> list[float]:
    """Return the accuracy on test of one network a seed, as the target's float graph; empty where there is one seed."""
    if len(networks) < 2:
        return []
    calibration = test.with_name("calibration")
    # In the target's opset the first seed's graph is there already, and measured.
    opset, ir = target.runtime.opset, target.runtime.ir
    graphs = [exported(store, network, project, calibration, opset, ir, row).path for network in networks]
    return [float(evaluated(store, graph, test, None, row).metrics["top1"]) for graph in graphs]
