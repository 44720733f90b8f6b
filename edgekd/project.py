"""A recipe whose references are resolved and whose inputs exist: all that can be checked before any work."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgekd.errors import DataError, EdgekdError, ModelError
from edgekd.hashes import files_below
from edgekd.recipe import Model, Recipe, Training
from edgekd.ref import Ref, resolve
from edgekd.workload import folder

T = TypeVar("T", bound=Training)
_ROOM_BYTES = 500_000_000
_PREPARED_COPIES = 3


@dataclass(frozen=True)
class Project:
    """What the pipeline works on."""

    recipe: Recipe
    source: Path | Ref | str
    val: Path | None
    teacher: Ref
    student: Ref
    teacher_weights: Path | None
    student_weights: Path | None
    rehearsal: bool = False

    @property
    def samples(self) -> int:
        """Calibration images, where train holds as many; a float build takes some for its parity checks."""
        return self.recipe.quantize.samples if self.recipe.quantize else 64

    def check_samples(self, drawn: int) -> None:
        """Raise DataError where the recipe itself names more calibration images than could be drawn."""
        config = self.recipe.quantize
        if config is not None and "samples" in config.model_fields_set and drawn < config.samples:
            raise DataError(
                f"quantize.samples = {config.samples}, but train has only {drawn} images",
                f"set quantize.samples to at most {drawn}, leave it out to take all that there are, or add images",
            )

    @property
    def start_saw_train(self) -> bool:
        """Whether what becomes the student starts from weights that saw the train folder, our validation included."""
        model = self.recipe.student or self.recipe.teacher
        return model.saw_this_train

    def selects(self, val_from_train: bool) -> bool:
        """Whether validation images can choose an epoch: what is trained has not seen them before."""
        return not (self.start_saw_train and val_from_train)

    @property
    def teacher_saw_train(self) -> bool:
        """Whether the teacher's given weights saw the train folder."""
        return self.recipe.teacher.saw_this_train


def open_project(recipe: Recipe, store: Path) -> Project:
    """Resolve every reference of a recipe. Raises EdgekdError for the first that does not hold."""
    for path in (recipe.folder, store):
        check_utf8(path)
    data = recipe.data
    source: Path | Ref | str
    if data.source == "digits":
        source = "digits"
    elif data.source == "folder":
        source = recipe.folder / data.path
    elif ":" in data.source:
        source = resolve(data.source, recipe.folder)
    else:
        raise DataError(f'data.source = "{data.source}"', "it is folder, digits, or module:function")
    val = recipe.folder / data.val if data.val else None
    if isinstance(source, Path):
        folder.check(source, val, data)
    student = recipe.student or recipe.teacher
    project = Project(
        recipe=recipe,
        source=source,
        val=val,
        teacher=resolve(recipe.teacher.model, recipe.folder, recipe.teacher.files, "teacher"),
        student=resolve(student.model, recipe.folder, student.files, "student" if recipe.student else "teacher"),
        teacher_weights=_weights(recipe.teacher, recipe.folder),
        student_weights=_weights(student, recipe.folder),
    )
    _check_room(project, store)
    return project


def check_utf8(folder: Path) -> None:
    """Raise EdgekdError for a folder that torch's exporter and onnxruntime cannot work in."""
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError:
        raise EdgekdError(f"the path of {folder} is not UTF-8", "rename the folder, or work in another one") from None


def with_selection(config: T, val_is_unseen: bool) -> T:
    """Resolve `select = "auto"`: the best epoch on validation, or the last where those images were seen before."""
    if config.select != "auto":
        return config
    return config.model_copy(update={"select": "best" if val_is_unseen else "last"})


def _weights(model: Model, base: Path) -> Path | None:
    if not model.weights:
        return None
    file = base / model.weights
    if not file.is_file():
        raise ModelError(f"no weights file {file}", "weights are relative to the recipe's folder")
    return file


def _check_room(project: Project, store: Path) -> None:
    """Raise EdgekdError when the disk clearly lacks room for prepared images, cached logits and checkpoints."""
    needed = _ROOM_BYTES
    if isinstance(project.source, Path):
        height, width = project.recipe.data.shape
        trained, *others = (
            sum(1 for _ in files_below(split))
            for split in (project.source / "train", project.source / "test", *([project.val] if project.val else []))
        )
        classes = sum(1 for _ in project.source.glob("train/*/"))
        needed += _PREPARED_COPIES * (trained + sum(others)) * height * width * 3 // 2
        if not any(store.glob("teach-*")):  # else they may be what fills the disk
            needed += trained * _logit_bytes(project.recipe, classes)
    existing = next(parent for parent in (store.absolute(), *store.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise EdgekdError(
            f"{existing} has {free / 1e9:.1f} GB free, this build needs about {needed / 1e9:.1f} GB",
            "free some room, move the store with --store, or keep fewer views or top logits in a teacher_cache",
        )


def _logit_bytes(recipe: Recipe, classes: int) -> int:
    """Return what the teacher caches take for one image: float16, and int32 columns where only the largest stay."""
    trainings = [recipe.distill, recipe.prune.recovery if recipe.prune else None]
    total = 0
    for config in trainings:
        if config is not None and config.teacher_cache is not None and config.terms:
            top = config.teacher_cache.top
            row = 6 * top + 2 if 0 < top < classes - 1 else 2 * classes
            # A budget's epochs are not known yet.
            epochs = config.teacher_cache.views if config.budget else config.epochs
            total += row * min(config.teacher_cache.views, epochs) * max(1, len(config.seeds))
    return total
