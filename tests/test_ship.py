"""What is shipped: int8 unless it is slower, or loses what the budget does not allow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd import host as hosts
from edgekd import recipe as recipes
from edgekd import ship
from edgekd import target as targets
from edgekd.bench.measure import Measured
from edgekd.bench.statistics import Quantile
from edgekd.errors import RecipeError
from edgekd.evaluate.accuracy import top1
from edgekd.recipe import Recipe
from edgekd.stage import Artifact
from edgekd.store import Store
from edgekd.target import Target

LABELS = np.arange(100) % 10


def here() -> Target:
    """A target that is this machine."""
    return targets.load({"x86_64": "cpu", "aarch64": "arm64"}[hosts.this().architecture])


def elsewhere() -> Target:
    return targets.load({"x86_64": "arm64", "aarch64": "cpu"}[hosts.this().architecture])


def evaluated(folder: Path, name: str, wrong: int) -> Artifact:
    """An evaluation whose first `wrong` of 100 answers are wrong."""
    logits = np.eye(10, dtype=np.float32)[LABELS]
    logits[:wrong] = np.roll(logits[:wrong], 1, axis=1)
    np.save(folder / f"{name}.npy", logits)
    return Artifact("evaluate", folder / f"{name}.npy", top1(logits, LABELS).model_dump())


def picked(
    folder: Path,
    target: Target,
    recipe: Recipe,
    wrong: tuple[int, int, int],
    seen: bool = False,
    insist: bool = False,
) -> ship.Shipped:
    """Ship with this many wrong answers of teacher, float and int8."""
    for name in ("float", "int8"):
        (folder / f"{name}.onnx").write_bytes(name.encode())
    teacher, parent, int8 = (
        evaluated(folder, name, count) for name, count in zip(("teacher", "float", "int8"), wrong, strict=True)
    )
    found = {"int8.onnx": int8, "float.onnx": parent}
    candidates = Artifact("quantize", folder, {"candidates": ["int8.onnx", "float.onnx"]})
    allowed = recipe.budget.over(target.budget).max_accuracy_drop
    judge = ship.Judge(lambda file: found[file.name], teacher, seen, allowed)
    return ship.ship(Store(folder / "store"), recipe.bench, target, candidates, None, judge, insist)


def times(monkeypatch: pytest.MonkeyPatch, faster: float) -> list[int]:
    """Have int8 measured this many times as fast as float; return a list that grows by each measurement."""
    calls: list[int] = []

    def measure(*_: object) -> Measured:
        calls.append(1)
        quantile = Quantile(value=faster, low=None, high=None)
        return Measured(
            machine="", onnxruntime="", provider="", threads=1, rounds=5, latency_ms={}, faster={"wanted": quantile}
        )

    monkeypatch.setattr(ship, "measure", measure)
    return calls


@pytest.mark.parametrize(("faster", "precision"), [(2.0, "int8"), (1.0, "int8"), (0.97, "float")])
def test_int8_is_never_shipped_slower_than_float(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faster: float, precision: str
) -> None:
    times(monkeypatch, faster)
    shipped = picked(tmp_path, here(), recipes.digits(), (0, 0, 0))
    assert shipped.precision == precision
    assert f"{faster:.2f}×" in shipped.reason


def test_a_measurement_chooses_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = times(monkeypatch, 2.0)
    first = picked(tmp_path, here(), recipes.digits(), (0, 0, 0))
    monkeypatch.undo()
    calls = times(monkeypatch, 0.5)
    assert picked(tmp_path, here(), recipes.digits(), (0, 0, 0)) == first
    assert calls == []


def test_int8_that_loses_more_than_the_budget_on_validation_is_not_shipped(tmp_path: Path) -> None:
    recipe = recipes.digits(["budget.max_accuracy_drop=0.05"])
    shipped = picked(tmp_path, elsewhere(), recipe, (0, 3, 6))
    assert (shipped.precision, shipped.reason) == ("float", "int8 loses 6.00 points on validation")
    assert picked(tmp_path, elsewhere(), recipe, (0, 3, 4)).precision == "int8"


def test_where_float_misses_the_budget_too_int8_is_shipped(tmp_path: Path) -> None:
    recipe = recipes.digits(["budget.max_accuracy_drop=0.05"])
    assert picked(tmp_path, elsewhere(), recipe, (0, 7, 8)).precision == "int8"


def test_on_images_that_training_saw_disagreement_with_float_is_what_counts(tmp_path: Path) -> None:
    recipe = recipes.digits(["budget.max_accuracy_drop=0.05"])
    assert picked(tmp_path, elsewhere(), recipe, (0, 20, 22), seen=True).precision == "int8"
    assert picked(tmp_path, elsewhere(), recipe, (20, 20, 0), seen=True).precision == "float"


def test_speed_on_another_machine_is_said_not_to_be_judged(tmp_path: Path) -> None:
    shipped = picked(tmp_path, elsewhere(), recipes.digits(), (0, 0, 0))
    assert shipped.precision == "int8"
    assert "its speed is not judged here" in shipped.reason


def test_without_a_budget_an_int8_that_collapsed_is_not_shipped(tmp_path: Path) -> None:
    assert picked(tmp_path, elsewhere(), Recipe.model_validate(plain()), (0, 0, 30)).precision == "float"
    assert picked(tmp_path, elsewhere(), Recipe.model_validate(plain()), (0, 0, 5)).precision == "int8"


def test_a_collapse_is_not_shipped_where_float_misses_the_budget_too(tmp_path: Path) -> None:
    recipe = recipes.digits(["budget.max_accuracy_drop=0.05"])
    assert picked(tmp_path, elsewhere(), recipe, (0, 7, 80)).precision == "float"
    assert picked(tmp_path, elsewhere(), recipe, (0, 7, 13)).precision == "float"


def test_no_budget_excuses_a_collapse(tmp_path: Path) -> None:
    recipe = recipes.digits(["budget.max_accuracy_drop=1.0"])
    assert picked(tmp_path, elsewhere(), recipe, (0, 0, 40)).precision == "int8"
    assert picked(tmp_path, elsewhere(), recipe, (0, 0, 60)).precision == "float"


def test_int8_that_is_refused_is_kept_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, 0.5)
    slow = picked(tmp_path, here(), recipes.digits(), (0, 0, 0))
    wrong = picked(tmp_path, elsewhere(), recipes.digits(), (0, 0, 40))
    assert [found.precision for found in (slow, wrong)] == ["float", "float"]
    assert slow.refused == wrong.refused == tmp_path / "int8.onnx"
    assert picked(tmp_path, elsewhere(), recipes.digits(), (0, 0, 0)).refused is None


def test_int8_ships_in_spite_of_both_guards_where_the_user_insists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, 0.5)
    slow = picked(tmp_path, here(), recipes.digits(), (0, 0, 0), insist=True)
    wrong = picked(tmp_path, elsewhere(), recipes.digits(), (0, 0, 80), insist=True)
    assert (slow.precision, wrong.precision) == ("int8", "int8")
    assert slow.reason == "as --ship asks, although int8 is slower here: 0.50× the speed of float"
    assert wrong.reason == "as --ship asks, although int8 loses 80.00 points on validation"


def test_ship_takes_two_words() -> None:
    assert (ship.insists("auto"), ship.insists("int8")) == (False, True)
    with pytest.raises(RecipeError, match='--ship "float" is unknown'):
        ship.insists("float")


PARTS = st.floats(0, 1)


@given(lost=PARTS, parent=PARTS, allowed=st.none() | st.floats(-1, 1), known=PARTS)
def test_what_ships_costs_little_beside_its_float_parent(
    lost: float, parent: float, allowed: float | None, known: float
) -> None:
    """Law over all combinations: what ships is within the budget or near its parent, and never a collapse."""
    if ship.may_ship(lost, parent, allowed, known):
        assert lost - parent <= known / 2
        assert lost - parent <= 0.1 or (allowed is not None and lost <= allowed)
        assert allowed is None or lost <= allowed or parent > allowed


@given(lost=PARTS, better=PARTS, parent=PARTS, allowed=st.none() | st.floats(-1, 1), known=PARTS)
def test_what_loses_less_ships_wherever_what_loses_more_does(
    lost: float, better: float, parent: float, allowed: float | None, known: float
) -> None:
    if ship.may_ship(lost, parent, allowed, known):
        assert ship.may_ship(min(lost, better), parent, allowed, known)


@given(parent=PARTS, allowed=st.none() | st.floats(0, 1), known=PARTS)
def test_a_candidate_that_answers_as_its_parent_always_ships(
    parent: float, allowed: float | None, known: float
) -> None:
    assert ship.may_ship(parent, parent, allowed, known)


def plain() -> dict[str, object]:
    """A recipe without any budget."""
    recipe = recipes.digits()
    return {**{name: getattr(recipe, name) for name in Recipe.model_fields if name != "budget"}}
