"""A recipe is strict: what is unknown, mistyped or impossible is one line and one hint."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import RecipeError
from edgekd.recipe import Budget, Distill, Hint, Recipe, digits, load, parse
from edgekd.recipe.losses import Dkd, Kd

MINIMAL: dict[str, Any] = {"name": "r", "data": {"source": "digits"}, "teacher": {"model": "m:f"}}


def parsed(overrides: list[str] | None = None, **tables: Any) -> Recipe:
    return parse({**MINIMAL, **tables}, "r.toml", Path("here"), overrides or [])


def refused(overrides: list[str] | None = None, **tables: Any) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        parsed(overrides, **tables)
    return caught.value


def test_a_missing_table_skips_its_stage_and_an_empty_one_takes_the_defaults() -> None:
    recipe = parsed(prune={})
    recovering = parsed(prune={"recovery": {}})
    assert (recipe.quantize, recipe.distill, recipe.student) == (None, None, None)
    assert recipe.prune is not None
    assert (recipe.prune.budgets, recipe.prune.block, recipe.prune.recovery) == ({"keep_macs": 0.7}, 16, None)
    assert recovering.prune is not None
    assert recovering.prune.recovery == Distill()


def test_the_folder_is_where_the_recipe_lies_and_never_part_of_its_values() -> None:
    recipe = parsed()
    assert recipe.folder == Path("here")
    assert "folder" not in recipe.model_dump()


def test_unknown_key_of_a_table_names_file_table_and_nearest_key() -> None:
    error = refused(distill={"temprature": 2.0}, student={"model": "m:g"})
    assert error.message == 'r.toml: unknown key "temprature" in [distill]'
    assert error.hint.startswith('did you mean "temperature"? known keys: epochs, budget, batch')


def test_unknown_key_of_a_nested_table_names_the_whole_path() -> None:
    error = refused(prune={"recovery": {"epoch": 3}})
    assert error.message == 'r.toml: unknown key "epoch" in [prune.recovery]'
    assert error.hint.startswith('did you mean "epochs"?')


def test_unknown_table_lists_the_tables_but_not_the_folder() -> None:
    error = refused(quantise={})
    assert error.message == 'r.toml: unknown table "quantise"'
    known = error.hint.partition("tables: ")[2].split(", ")
    assert error.hint.startswith('did you mean "quantize"?')
    stages = ["distill", "prune", "quantize", "finetune"]
    assert known == ["data", "teacher", "student", *stages, "bench", "budget", "compute"]


def test_a_folder_key_is_refused_although_the_model_has_such_a_field() -> None:
    error = refused(folder="/elsewhere")
    assert error.message == 'r.toml: unknown key "folder"'


@pytest.mark.parametrize(
    ("tables", "start"),
    [
        ({"quantize": {"samples": "many"}}, 'r.toml: quantize.samples = "many": '),
        ({"quantize": {"samples": 1.5}}, "r.toml: quantize.samples = 1.5: "),
        ({"quantize": {"samples": True}}, "r.toml: quantize.samples = true: "),
        ({"data": {"skip_unreadable": 1}}, "r.toml: data.skip_unreadable = 1: "),
        ({"data": {"size": "big"}}, 'r.toml: data.size = "big": '),
        ({"prune": 3}, "r.toml: prune = 3: "),
    ],
)
def test_a_wrong_type_names_key_and_value(tables: dict[str, Any], start: str) -> None:
    assert refused(**tables).message.startswith(start)


@pytest.mark.parametrize(
    ("tables", "start"),
    [
        ({"prune": {"keep_macs": 0.0}}, "r.toml: prune.keep_macs = 0.0: "),
        ({"prune": {"keep_macs": 1.1}}, "r.toml: prune.keep_macs = 1.1: "),
        ({"data": {"val_fraction": 1.0}}, "r.toml: data.val_fraction = 1.0: "),
        ({"budget": {"min_accuracy": 97.0}}, "r.toml: budget.min_accuracy = 97.0: "),
        ({"bench": {"rounds": 4}}, "r.toml: bench.rounds = 4: "),
        ({"compute": {"device": "tpu"}}, 'r.toml: compute.device = "tpu": '),
        ({"name": "../x"}, 'r.toml: name = "../x": '),
    ],
)
def test_an_impossible_value_names_key_and_value(tables: dict[str, Any], start: str) -> None:
    assert refused(**tables).message.startswith(start)


def test_a_missing_key_is_named_with_its_table() -> None:
    assert refused(teacher={}).message == "r.toml: teacher.model is missing"


@pytest.mark.parametrize("given", [{}, {"mean": [1.0, 2.0, 3.0]}, {"std": [1.0, 2.0, 3.0]}])
def test_weights_without_mean_or_std_are_refused(given: dict[str, Any]) -> None:
    error = refused(teacher={"model": "m:f", "weights": "w.pt", **given})
    assert error.message == (
        "r.toml: teacher: weights need the mean and std (pixel units, 0-255) that they were trained with"
    )


def test_std_of_zero_is_refused() -> None:
    error = refused(teacher={"model": "m:f", "mean": [1.0, 1.0, 1.0], "std": [1.0, 0.0, 1.0]})
    assert error.message == "r.toml: teacher: std must be above 0"


def test_weights_with_their_normalisation_are_taken() -> None:
    recipe = parsed(teacher={"model": "m:f", "weights": "w.pt", "mean": [1, 2, 3], "std": [4.0, 5.0, 6.0]})
    assert (recipe.teacher.mean, recipe.teacher.std) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def test_a_student_that_nothing_trains_is_refused() -> None:
    assert "nothing trains it" in refused(student={"model": "m:g"}).message


def test_distillation_without_a_student_is_refused() -> None:
    assert refused(distill={}).message.endswith("[distill] needs a [student]")


@pytest.mark.parametrize(("size", "shape"), [(32, (32, 32)), ([24, 48], (24, 48))])
def test_a_size_is_one_side_or_height_and_width(size: int | list[int], shape: tuple[int, int]) -> None:
    assert parsed(data={"size": size}).data.shape == shape


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("quantize.samples=7", 7),
        ("quantize.samples = 7", 7),
        ('quantize.precision="float"', "float"),
        ("quantize.precision=float", "float"),
    ],
)
def test_an_override_takes_toml_values_and_bare_words(override: str, found: int | str) -> None:
    recipe = parsed([override], quantize={})
    key = override.partition("=")[0].strip().removeprefix("quantize.")
    assert getattr(recipe.quantize, key) == found


def test_overrides_reach_arrays_tables_booleans_and_deep_keys() -> None:
    recipe = parsed(["data.size=[8, 16]", "prune={}", "data.skip_unreadable=true", "prune.recovery.lr=0.5"])
    assert recipe.data.shape == (8, 16)
    assert recipe.data.skip_unreadable is True
    assert recipe.prune is not None
    assert recipe.prune.recovery is not None
    assert recipe.prune.recovery.lr == 0.5


def test_of_two_overrides_of_one_key_the_last_holds() -> None:
    recipe = parsed(["teacher.train.epochs=2", "teacher.train.epochs=3"])
    assert recipe.teacher.train.epochs == 3


def test_a_bare_word_keeps_what_follows_its_first_equals_sign() -> None:
    assert parsed(["data.path=a=b"]).data.path == "a=b"


def test_an_override_changes_nothing_of_the_values_that_were_given() -> None:
    values: dict[str, Any] = {**MINIMAL, "data": {"source": "digits"}}
    parse(values, "r.toml", Path(), ["data.source=folder"])
    assert values["data"] == {"source": "digits"}


@pytest.mark.parametrize("override", ["epochs", "=3", ".epochs=3", "distill.=3", "distill..epochs=3", ""])
def test_an_override_of_another_form_is_refused(override: str) -> None:
    error = refused([override])
    assert error.message == f'--set "{override}" is not of the form table.key=value'
    assert error.hint == "for instance --set distill.epochs=5"


def test_an_override_below_a_value_is_refused() -> None:
    assert refused(["name.x=1"]).message == '--set "name.x=1": name is a value, not a table'


def test_an_override_is_as_strict_as_the_file() -> None:
    error = refused(["bench.round=9"])
    assert (error.message, error.hint[:22]) == (
        '--set: unknown key "round" in [bench]',
        'did you mean "rounds"?',
    )


def test_load_takes_a_file_or_its_folder_and_names_the_recipe_after_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "street-signs"
    folder.mkdir()
    file = folder / "edgekd.toml"
    file.write_text('[data]\n[teacher]\nmodel = "m:f"\n')
    by_file, by_folder = load(file), load(folder, ["data.size=8"])
    assert (by_file.name, by_file.folder) == ("street-signs", folder.resolve())
    assert by_folder.data.shape == (8, 8)


def test_load_of_nothing_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no recipe at .*edgekd\.toml"):
        load(tmp_path)


def test_load_of_no_toml_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "edgekd.toml").write_text("[data\n")
    with pytest.raises(RecipeError, match=r"edgekd\.toml: line 1: .*: \[data$"):
        load(tmp_path)


def test_load_of_no_text_is_a_recipe_error(tmp_path: Path) -> None:
    (tmp_path / "edgekd.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"edgekd\.toml: the file is UTF-16"):
        load(tmp_path)


def test_the_built_in_example_has_every_stage() -> None:
    recipe = digits()
    assert (recipe.name, recipe.data.source, recipe.folder) == ("digits", "digits", Path.cwd())
    assert all((recipe.student, recipe.distill, recipe.prune, recipe.quantize))
    assert (recipe.budget.min_accuracy, recipe.budget.max_size_kb) == (0.96, 150)


def test_the_built_in_example_takes_overrides() -> None:
    assert digits(["teacher.train.epochs=1"]).teacher.train.epochs == 1


def test_a_budget_takes_from_the_other_only_what_it_leaves_open() -> None:
    mine = Budget(min_accuracy=0.9)
    other = Budget(min_accuracy=0.5, max_latency_ms=3.0)
    assert mine.over(other) == Budget(min_accuracy=0.9, max_latency_ms=3.0)


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("data.size=[0, 8]", "data.size"),
        ("data.size=[100000, 8]", "data.size"),
        ("distill.lr=inf", "distill.lr"),
        ('data.labels=["a", "a"]', 'data: the label "a" is named twice'),
        ("folder=/tmp", 'unknown key "folder"'),
    ],
)
def test_values_that_no_build_can_use_are_refused(override: str, start: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        digits([override])
    assert start in refusal.value.message


def test_an_override_that_toml_reads_as_a_date_is_taken_as_its_text() -> None:
    assert digits(["data.path=2024-01-01"]).data.path == "2024-01-01"


STUDENT = {"model": "m:g"}
LAYERS = {"student": "a", "teacher": "b"}


@pytest.mark.parametrize(
    ("distill", "message", "hint"),
    [
        ({"loss": [{"kind": "dkdd"}]}, 'distill.loss.0.kind: there is no "dkdd"', 'did you mean "dkd"? kinds: kd, dkd'),
        ({"loss": [{"weight": 1.0}]}, "distill.loss.0.kind is missing", "kinds: kd, dkd"),
        (
            {"loss": [{"kind": "kd"}, {"kind": "dkd", "bta": 1.0}]},
            'unknown key "bta" in [distill.loss.1]',
            'did you mean "beta"? known keys: kind, weight, standardize, temperature, alpha, beta',
        ),
        ({"loss": [{"kind": "hint", "teacher": "a"}]}, "distill.loss.0.student is missing", ""),
        ({"loss": [{"kind": "kd", "weight": 0.0}]}, "distill.loss.0.weight = 0.0: input should be greater than 0", ""),
        ({"loss": [{"kind": "kd"}], "temperature": 2.0}, "distill: temperature stands beside [[distill.loss]]", ""),
        ({"teacher_cache": {"views": 0}}, "distill.teacher_cache.views = 0: input should be greater than", ""),
        ({"teacher_cache": {}, "augment": {"mixup": 0.2}}, "distill: teacher_cache cannot hold mixed images", "leave"),
        ({"teacher_cache": {}, "augment": {"cutmix": 1.0}}, "distill: teacher_cache cannot hold mixed images", ""),
        ({"teacher_cache": {}, "loss": [{"kind": "sp", **LAYERS}]}, "distill: teacher_cache holds logits alone", ""),
        ({"loss": [{"kind": "dkd"}], "augment": {"mixup": 0.2}}, "distill: dkd splits the logits by the label", ""),
        ({"budget": "30"}, 'distill.budget: "30" is not a time', 'a number above 0 and s, m or h: budget = "30m"'),
        ({"budget": "0m"}, 'distill.budget: "0m" is not a time', ""),
        ({"budget": "9m", "epochs": 4}, "distill: epochs and budget are both given", ""),
        ({"seeds": [3, 3]}, "distill: a seed is named twice", ""),
        ({"seeds": [3], "seed": 2}, "distill: seed and seeds are both given", ""),
        ({"crop": 2}, 'unknown key "crop" in [distill]', '"crop" is a key of augment; known keys: epochs'),
        ({"ema": 1.0}, "distill.ema = 1.0: input should be less than 1", ""),
        ({"augment": {"randaugment": {"operations": 5}}}, "distill.augment.randaugment.operations = 5", ""),
        ({"augment": {"crop": 224}}, "distill.augment.crop = 224 leaves nothing of images of 224×224", "it is in"),
        ({"augment": {"cutout": 10**23}}, "distill.augment.cutout = 1", "it is in pixels: set it below 224"),
        ({"loss": [{"kind": "attention", "power": 0.5, **LAYERS}]}, "distill.loss.0.power = 0.5", ""),
        ({"loss": [{"kind": "hint", "regressor": 1, **LAYERS}]}, "distill.loss.0.regressor = 1", ""),
        ({"temperature": 1e30}, "distill.temperature = 1e+30", ""),
        ({"batch": 10**11}, "distill.batch = 100000000000", ""),
    ],
)
def test_what_distillation_cannot_do_is_refused_in_one_line(distill: dict[str, Any], message: str, hint: str) -> None:
    error = refused(distill=distill, student=STUDENT)
    assert error.message.startswith(f"r.toml: {message}")
    assert error.hint.startswith(hint) and "\n" not in error.message + error.hint


def test_losses_come_as_their_types_with_the_papers_defaults() -> None:
    given = [{"kind": "dkd", "weight": 2.0}, {"kind": "hint", **LAYERS}]
    distill = parsed(distill={"loss": given}, student=STUDENT).distill
    assert distill is not None
    assert distill.terms == (Dkd(weight=2.0, temperature=4.0, alpha=1.0, beta=2.0), Hint(weight=100.0, **LAYERS))


def test_without_losses_it_is_kd_with_what_alpha_leaves() -> None:
    distill = parsed(distill={"alpha": 0.25, "temperature": 3.0}, student=STUDENT).distill
    assert distill is not None
    assert distill.terms == (Kd(weight=0.75, temperature=3.0),)


@pytest.mark.parametrize(("budget", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("", 0)])
def test_a_budget_is_in_seconds(budget: str, seconds: float) -> None:
    distill = parsed(distill={"budget": budget} if budget else {}, student=STUDENT).distill
    assert distill is not None
    assert distill.budget_seconds == seconds


def test_args_take_lists_and_tables_and_hash_by_value() -> None:
    """Numbers keep their type, so that the key of args without lists is what it was when only scalars were taken."""
    args = {"classes": 3, "p": 1.0, "on": True, "kind": "a", "widths": [16, 32.0, [64]], "head": {"bias": [False]}}
    teacher = parsed(teacher={"model": "m:f", "args": args}).teacher
    assert json.dumps(teacher.model_dump(mode="json")["args"]) == json.dumps(args)


def test_an_override_may_be_a_list_or_a_table() -> None:
    overrides = ["teacher.args.widths=[16, 32]", "teacher.args.head.bias=true"]
    assert parsed(overrides).teacher.args == {"widths": [16, 32], "head": {"bias": True}}


@pytest.mark.parametrize(
    ("args", "where"),
    [
        ({"p": math.nan}, "p = nan"),
        ({"widths": [1, math.inf]}, "widths.1 = inf"),
        ({"head": {"a": [None]}}, "head.a.0 = None"),
    ],
)
def test_an_argument_that_no_file_can_hold_is_named(args: dict[str, Any], where: str) -> None:
    error = refused(teacher={"model": "m:f", "args": args})
    assert error.message == f"r.toml: teacher.args: {where} cannot be passed on"
    assert error.hint == "arguments are finite numbers, strings, true, false, and lists and tables of these"
