"""The torch half of a build: networks trained, distilled and pruned, in the order of the stages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from edgekd.compilation import evaluated, exported
from edgekd.cutting import Cutter
from edgekd.distill import pace
from edgekd.distill.stage import distill, recover, teach, train_teacher
from edgekd.errors import ModelError, RecipeError
from edgekd.models import network
from edgekd.models.stage import initialise
from edgekd.products import LatencyCut, Networks, OverSeeds
from edgekd.project import Project, with_selection
from edgekd.prune.stage import couple
from edgekd.recipe import Distill, LogitLoss, Prune, Recipe, Sparse, Teacher, Training, least_top1
from edgekd.ref import Ref
from edgekd.stage import Artifact, PlanEndsError
from edgekd.store import Store
from edgekd.target import Target
from edgekd.train import precision
from edgekd.train.device import Place

T = TypeVar("T", bound=Training)
Under = Literal["distill", "recover"]
_NO_MATTER_OF_SPEED = {
    "epochs", "lr", "momentum", "weight_decay", "schedule", "label_smoothing", "alpha", "temperature", "select",
    "seed", "seeds",
}  # fmt: skip


def chain(store: Store, project: Project, place: Place, data: Artifact, target: Target) -> Networks:
    """Run the torch stages. The teacher is checked before anything trains under it.

    They are shared by all targets; `target`, the first one, is whose latency pruning may be asked for.
    """
    recipe = project.recipe
    teacher = _initialised(store, project, data, of_teacher=True, seed=recipe.teacher.train.seed)
    starts = [teacher]
    if recipe.student is not None:
        seeds = _seeds(recipe.distill) if recipe.distill else [0]
        starts = [_initialised(store, project, data, of_teacher=False, seed=seed) for seed in seeds]
    places = _Places(store, project, place, teacher, starts[0])
    _check_losses(recipe, len(data.metrics["classes"]))
    cutter = Cutter(store, project, data, places.student, target)
    if isinstance(recipe.prune, Prune):
        cutter.check(starts[0], recipe.prune)
    own, distilling = _settled_epochs(store, project, teacher, starts[0], data, places)
    if recipe.teacher.is_trained:
        teacher = store.run(
            train_teacher, start=teacher.path, code=project.teacher, train=data.path / "train", val=data.path / "val",
            config=with_selection(own, True), place=places.teacher,
        )  # fmt: skip
    _check_teacher(store, project, data, teacher)
    students = [teacher] if recipe.student is None else starts
    if distilling is not None:
        students = _under_teacher(store, project, "distill", students, teacher, data, distilling, places)
    student = students[0]
    if recipe.prune is None:
        return Networks(data, teacher, student, student, (), None, (("student", tuple(students)),))
    cuts, latency = _cuts(cutter, student, teacher, recipe.prune, places)
    finals = [cuts[-1]]
    over_seeds: OverSeeds = (("student", tuple(students)),)
    if (recovery := recipe.prune.recovery) is not None:
        starts = [cuts[-1] for _ in _seeds(recovery)]
        finals = _under_teacher(store, project, "recover", starts, teacher, data, recovery, places)
        over_seeds += (("pruned", tuple(finals)),)
    return Networks(data, teacher, student, finals[0], tuple(cuts), latency, over_seeds)


def _cuts(
    cutter: Cutter, whole: Artifact, teacher: Artifact, config: Prune | Sparse, places: _Places
) -> tuple[list[Artifact], LatencyCut | None]:
    if isinstance(config, Sparse):
        return [cutter.sparse(whole, config)], None
    recovery = config.recovery

    def recovered(cut: Artifact) -> Artifact:
        if recovery is None:
            return cut
        short = recovery.model_copy(update={"epochs": config.between, "budget": "", "seeds": ()})
        return _under_teacher(cutter.store, cutter.project, "recover", [cut], teacher, cutter.data, short, places)[0]

    return cutter.channels(whole, config, recovered)


def _check_losses(recipe: Recipe, classes: int) -> None:
    """Raise RecipeError for losses that two classes leave nothing to."""
    trainings = {"distill": recipe.distill, "prune.recovery": recipe.prune.recovery if recipe.prune else None}
    for table, config in trainings.items():
        for term in config.terms if config is not None else ():
            if classes == 2 and isinstance(term, LogitLoss) and (term.standardize or term.kind == "dist"):
                what = "standardize = true" if term.standardize else "dist"
                raise RecipeError(
                    f"{table}: {what} keeps nothing of two logits but which one is larger",
                    "for two classes take kd, dkd or mse as they are",
                )


def _settled_epochs(
    store: Store, project: Project, teacher: Artifact, student: Artifact, data: Artifact, places: _Places
) -> tuple[Training, Distill | None]:
    """Return the teacher's own training and the distillation with epochs in place of budgets of time.

    Before anything trains, since speed hangs on no weights: a budget shorter than one epoch is refused here. So is a
    recovery's, by the network that is not pruned yet; what the pruned one's budget holds is measured when it exists.
    """
    recipe = project.recipe
    own, distilling = recipe.teacher.train, recipe.distill
    if recipe.teacher.is_trained:
        own = _paced(store, project, "teacher", teacher, None, data, own, places.teacher)
    if distilling is not None:
        distilling = _paced(store, project, "distill", student, teacher, data, distilling, places.student)
    if recipe.prune is not None and recipe.prune.recovery is not None:
        _paced(store, project, "recover", student, teacher, data, recipe.prune.recovery, places.student)
    return own, distilling


def _initialised(store: Store, project: Project, data: Artifact, of_teacher: bool, seed: int) -> Artifact:
    recipe = project.recipe
    model = recipe.teacher if of_teacher else recipe.student or recipe.teacher
    seed = 0 if model.weights and model.head == "keep" else seed  # then it decides nothing
    subject = "teacher" if of_teacher else "student"
    try:
        return store.run(
            initialise.of(subject),
            code=project.teacher if of_teacher else project.student,
            weights=project.teacher_weights if of_teacher else project.student_weights,
            config=model.bare(), classes=len(data.metrics["classes"]), shape=recipe.data.shape, seed=seed,
        )  # fmt: skip
    except ModelError as error:
        raise ModelError(f"{subject}: {error.message}", error.hint) from None


def _under_teacher(
    store: Store,
    project: Project,
    name: Under,
    starts: list[Artifact],
    teacher: Artifact,
    data: Artifact,
    config: Distill,
    places: _Places,
) -> list[Artifact]:
    """Distill or recover, once per seed."""
    selects = project.selects(data.metrics["val_from_train"])
    config = _paced(store, project, name, starts[0], teacher, data, with_selection(config, selects), places.student)
    train = data.path / "train"
    keep_zeros = name == "recover" and isinstance(project.recipe.prune, Sparse)
    found = []
    for start, seed in zip(starts, _seeds(config), strict=True):
        settings = config.model_copy(update={"seed": seed, "seeds": ()})
        logits = None
        if settings.teacher_cache is not None and settings.terms:
            # Views beyond the last epoch are never seen.
            views = min(settings.teacher_cache.views, settings.epochs)
            cache = settings.teacher_cache.model_copy(update={"views": views})
            settings = settings.model_copy(update={"teacher_cache": cache})
            logits = store.run(
                teach, teacher=teacher.path, teacher_code=project.teacher, train=train, augment=settings.augment,
                seed=seed, batch=settings.batch, config=cache, place=places.teacher,
            ).path  # fmt: skip
        trained = store.run(
            distill if name == "distill" else recover, name=name, start=start.path, code=project.student,
            teacher=teacher.path, teacher_code=project.teacher, logits=logits, train=train, val=data.path / "val",
            groups=_groups(store, project, start, settings), keep_zeros=keep_zeros, config=settings,
            place=places.student,
        )  # fmt: skip
        found.append(trained)
    return found


def _groups(store: Store, project: Project, start: Artifact, config: Distill) -> Path | None:
    """Return which channels will be cut together, where sparsity is asked of them."""
    prune = project.recipe.prune
    if not config.sparsity or not isinstance(prune, Prune):
        return None
    shape = project.recipe.data.shape
    return store.run(couple, start=start.path, code=project.student, shape=shape, protect=prune.protect).path


def _seeds(config: Distill) -> list[int]:
    return list(config.seeds) or [config.seed]


def _paced(
    store: Store,
    project: Project,
    name: str,
    start: Artifact,
    teacher: Artifact | None,
    data: Artifact,
    config: T,
    place: Place,
) -> T:
    """Turn a budget of time into a number of epochs, measured once and then kept."""
    if not config.budget:
        return config
    code = project.teacher if teacher is None else project.student
    supervisor = None if teacher is None else (teacher.path, project.teacher)
    splits = (data.path / "train", data.path / "val")

    def measure() -> str:
        return str(pace.epochs_within(name, start.path, code, supervisor, splits, config, place))

    for needed in (start, data, *([teacher] if teacher else [])):
        needed.require()  # ends a plan where it is not made yet
    # What does not change the speed does not ask for another measurement.
    pace_of = config.model_dump(mode="json", exclude=_NO_MATTER_OF_SPEED)
    pace_of |= {"asks_teacher": bool(config.terms)} if isinstance(config, Distill) else {}
    asked = {"config": pace_of, "place": place, "start": store.digest(start.path), "train": store.digest(splits[0])}
    asked |= {"teacher": store.digest(teacher.path)} if teacher is not None else {}
    epochs = int(store.choose(f"{name}-epochs", asked, measure))
    store.say(f"{name}: the budget of {config.budget} holds {epochs} epochs")
    return config.model_copy(update={"epochs": epochs, "budget": ""})


@dataclass(frozen=True)
class _Places:
    """Where and how each network is trained: `precision = "auto"` is measured for each, once, when it is needed."""

    store: Store
    project: Project
    place: Place
    teacher_start: Artifact
    student_start: Artifact

    @cached_property
    def teacher(self) -> Place:
        """The teacher's: another student does not train it again."""
        return self._settled(self.teacher_start, self.project.teacher)

    @cached_property
    def student(self) -> Place:
        """The student's, as it starts and as it is pruned."""
        return self._settled(self.student_start, self.project.student)

    def _settled(self, start: Artifact, code: Ref) -> Place:
        automatic = self.project.recipe.compute.precision == "auto" and self.place.device == "cpu"
        is_open = automatic and self.place.precision == "bf16-mixed"
        if self.project.rehearsal or not is_open or not start.path.exists():
            return self.place
        shape = self.project.recipe.data.shape

        def measure() -> str:
            return precision.faster(network.load(start.path, code).module, shape, self.place)

        asked = {"network": self.store.digest(start.path), "place": self.place, "shape": shape}
        try:
            chosen = self.store.choose("precision", asked, measure)
        except PlanEndsError:
            return self.place
        return self.place.model_copy(update={"precision": chosen})


def _check_teacher(store: Store, project: Project, data: Artifact, teacher: Artifact) -> None:
    """Measure the teacher on validation before anything trains. Raises ModelError when it is far too low."""
    if project.rehearsal:
        return
    graph = exported(store, teacher, project, data.path / "calibration", 18, 8, "teacher")
    measured = evaluated(store, graph.path, data.path / "val", None, "teacher").measured
    if measured is None:
        return  # only planned
    config, classes = project.recipe.teacher, len(data.metrics["classes"])
    least = config.min_teacher if config.min_teacher is not None else least_top1(classes)
    if measured["top1"] < least:
        raise ModelError(
            f"the teacher is right on {100 * measured['top1']:.1f} % of the validation images, "
            f"less than {100 * least:.1f} %, {_least_of(config, classes)}",
            _to_mend(config),
        )


def _least_of(config: Teacher, classes: int) -> str:
    """Say where the least accuracy of a teacher comes from."""
    if config.min_teacher is not None:
        return "which teacher.min_teacher asks for"
    chance = 1 / classes
    guessing = f"guessing among {classes} classes ({100 * chance:.1f} %)"
    return f"three times {guessing}" if least_top1(classes) == 3 * chance else f"half way from {guessing} to 100 %"


def _to_mend(config: Teacher) -> str:
    """Say what to change of a teacher that is far too low; one that was trained here knows no other classes."""
    lower = "or lower teacher.min_teacher"
    if not config.is_trained:
        return f"suspects: the order of the classes (data.labels), mean and std, RGB against BGR; {lower}"
    length = f'budget, now "{config.train.budget}"' if config.train.budget else f"epochs, now {config.train.epochs}"
    return f"train it longer: raise teacher.train.{length}; or give it weights; {lower}"
