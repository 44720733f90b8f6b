"""Mistakes in a recipe: each is one message that names it, and one hint that mends it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from edgekd import recipe as recipes
from edgekd.errors import EdgekdError, RecipeError

DATA: dict[str, Any] = {"source": "digits", "size": 32}
TEACHER = {"model": "edgekd.models:digits_teacher"}
STUDENT = {"model": "edgekd.models:digits_student"}


def refused(*overrides: str, **tables: Any) -> tuple[str, str]:
    """Return (message, hint) of a recipe with these tables."""
    with pytest.raises(RecipeError) as caught:
        recipes.parse({"name": "r", "data": DATA, "teacher": TEACHER, **tables}, "r.toml", Path(), overrides)
    return caught.value.message, caught.value.hint


def loaded(folder: Path, text: str) -> tuple[str, str]:
    """Return (message, hint) of a recipe file."""
    (folder / "edgekd.toml").write_text(text, encoding="utf-8")
    with pytest.raises(EdgekdError) as caught:
        recipes.load(folder)
    return caught.value.message.removeprefix(f"{folder}/"), caught.value.hint


def test_a_misspelt_table_is_named_and_not_the_one_that_is_missing(tmp_path: Path) -> None:
    message, hint = loaded(tmp_path, '[dat]\npath = "x"\n[teacher]\nmodel = "m:f"\n')
    assert message == 'edgekd.toml: unknown table "dat"'
    assert hint.startswith('did you mean "data"? tables: data, teacher, student')


def test_a_misspelt_table_inside_a_table_is_named_with_it() -> None:
    message, hint = refused(distill={"augmnt": {"crop": 2}}, student=STUDENT)
    assert message == 'r.toml: unknown table "augmnt" in [distill]'
    assert hint.startswith('did you mean "augment"?')


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("distill.epochs=-1", "epochs = -1: input should be greater than or equal to 1",
         "epochs takes a whole number of at least 1; by default epochs = 20"),
        ('distill.lr="1e-3"', 'lr = "1e-3": input should be a valid number',
         "numbers, true and false stand without quotes; lr takes a number above 0; by default lr = 0.05"),
        ("distill.lr=0", "lr = 0", "lr takes a number above 0; by default lr = 0.05"),
        ("distill.momentum=1", "momentum = 1", "momentum takes a number of at least 0 and below 1; by default"),
        ("distill.batch=1", "batch = 1", "batch takes a whole number from 2 to 1048576; by default batch = 128"),
        ("distill.schedule=step", 'schedule = "step"', 'schedule takes one of "cosine", "one-cycle"; by default'),
        ("distill.alpha=2", "alpha = 2", "alpha takes a number from 0 to 1; by default alpha = 0.1. Weight of the"),
        ("distill.augment.flip=1", "augment.flip = 1", "flip takes true or false, without quotes; by default"),
        ("distill.augment.rotate=200", "rotate = 200", "rotate takes a number from 0 to 180; by default rotate = 0.0."),
        ('quantize.precision="int4"', 'precision = "int4"',
         'precision takes one of "int8", "fp16", "float", or "auto"; by default precision = "auto".'),
        ("quantize.samples=0", "samples = 0", "samples takes a whole number of at least 1; by default samples = 512."),
        ("quantize.calibrator=mean", 'calibrator = "mean"', 'calibrator takes one of "auto", "min-max", "percentile"'),
        ("quantize.percentile=20", "percentile = 20", "percentile takes a number above 50 and of at most 100; by"),
        ("data.size=0", "data.size = 0", "size takes a whole number from 1 to 4096, or a list [ ] of 2, each a whole"),
        ("data.val_fraction=1.5", "val_fraction = 1.5", "val_fraction takes a number above 0 and below 1; by default"),
        ("data.labels=3", "data.labels = 3", 'labels takes a list [ ], each text in quotes; for example labels = ["'),
        ("data.skip_unreadable=yes", 'skip_unreadable = "yes"', "numbers, true and false stand without quotes; skip"),
        ("data.seed=-1", "data.seed = -1", "seed takes a whole number of at least 0 and below 4294967296"),
        ("prune.keep_macs=1.5", "keep_macs = 1.5", "keep_macs takes a number above 0 and of at most 1; for example"),
        ("prune.block=0", "prune.block = 0", 'block takes a whole number of at least 1, or "target"; by default'),
        ("prune.importance=l3", 'importance = "l3"', 'importance takes one of "l1", "l2", "fpgm", "lamp"'),
        ("budget.min_accuracy=97", "min_accuracy = 97", "min_accuracy takes a number from 0 to 1; for example min"),
        ("budget.max_size_kb=0", "max_size_kb = 0", "max_size_kb takes a number above 0; for example max_size"),
        ("bench.rounds=1", "bench.rounds = 1", "rounds takes a whole number of at least 5; by default rounds = 60."),
        ("compute.device=tpu", 'device = "tpu"', 'device takes one of "auto", "cpu", "cuda"; by default device'),
        ("teacher.mean=[1, 2]", "teacher.mean", "mean takes a list [ ] of 3, each a number; for example mean = [123."),
        ("teacher.model=3", "teacher.model = 3", 'model takes text in quotes; for example model = "torchvision.'),
        ("distill=3", "distill = 3: must be a table", "known keys: epochs, budget, batch, lr"),
    ],
)  # fmt: skip
def test_an_impossible_value_says_range_default_and_example(override: str, message: str, hint: str) -> None:
    said, help_ = refused(override, student=STUDENT, distill={})
    assert message in said
    assert help_.startswith(hint)


def test_a_windows_path_in_double_quotes_is_quoted_with_what_to_write(tmp_path: Path) -> None:
    message, hint = loaded(tmp_path, '[data]\npath = "C:\\Users\\me"\n')
    assert message == 'edgekd.toml: line 2: invalid hex value: path = "C:\\Users\\me"'
    assert "write paths as 'C:\\data' in single quotes, or as \"C:/data\"" in hint


def test_a_path_whose_backslash_became_a_line_break_is_refused(tmp_path: Path) -> None:
    message, hint = loaded(tmp_path, '[data]\npath = "C:\\new"\n[teacher]\nmodel = "m:f"\n')
    assert message == 'edgekd.toml: data.path: "C:\\new" holds a control character'
    assert "write paths as 'C:\\new' in single quotes, or as \"C:/new\"" in hint


def test_a_size_below_the_default_shift_says_what_to_set() -> None:
    message, hint = refused(data={"source": "digits", "size": 1})
    assert message == (
        "r.toml: data.size = [1, 1] is too small: by default teacher.train.augment.crop shifts images by 4 pixels"
    )
    assert hint == "set data.size above 4, such as 32; or teacher.train.augment.crop = 0"


def test_a_shift_that_is_set_too_large_is_named_with_its_table() -> None:
    message, hint = refused(student=STUDENT, distill={"augment": {"crop": 40}})
    assert message == "r.toml: distill.augment.crop = 40 leaves nothing of images of 32×32 pixels"
    assert hint == "it is in pixels: set it below 32, or data.size above 40"


def test_a_teacher_with_weights_is_not_augmented_at_any_size() -> None:
    teacher = {**TEACHER, "weights": "w.pt", "mean": [1.0, 1.0, 1.0], "std": [1.0, 1.0, 1.0]}
    values = {"name": "r", "data": {"source": "digits", "size": 4}, "teacher": teacher}
    assert recipes.parse(values, "r.toml", Path()).data.shape == (4, 4)


def test_distillation_without_a_student_says_what_to_add() -> None:
    message, hint = refused(distill={})
    assert message == "r.toml: [distill] needs a [student]"
    assert hint.startswith('add [student] with model = "module:callable"')


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("distill.epoch=3", '--set: unknown key "epoch" in [distill]'),
        ("distill.epochs=0", "--set: distill.epochs = 0: input should be greater than or equal to 1"),
        ("distill={ epoch = 3 }", '--set: unknown key "epoch" in [distill]'),
        ("distill.budget=5m", "r.toml with --set: distill: epochs and budget are both given"),
    ],
)
def test_a_mistake_in_an_override_is_not_looked_for_in_the_file(override: str, message: str) -> None:
    assert refused(override, student=STUDENT, distill={"epochs": 2})[0] == message


def test_a_mistake_in_the_file_is_not_blamed_on_an_override() -> None:
    assert refused("data.seed=3", student=STUDENT, distill={"epoch": 2})[0].startswith("r.toml: unknown key")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", 'name = "parts"\n'])
def test_an_empty_recipe_is_shown_the_smallest_one(tmp_path: Path, text: str) -> None:
    """The hint's two lines are a recipe that loads."""
    message, hint = loaded(tmp_path, text)
    assert message == "edgekd.toml: the recipe is empty"
    lines = hint.removeprefix("the smallest recipe is two lines: ").partition(", which")[0].split(" and ")
    assert len(lines) == 2
    recipe = recipes.parse({"name": "r", **tomllib.loads("\n".join(lines))}, "r.toml", Path())
    assert (recipe.data.path, recipe.teacher.model) == ("images", "mynet:make")


def test_pruning_in_steps_needs_a_recovery_between_them() -> None:
    message, hint = refused(prune={"steps": 2})
    assert message == "r.toml: prune: steps = 2 recovers between its steps, and there is no [prune.recovery]"
    assert hint == "add [prune.recovery], which may be empty; or leave out steps"
