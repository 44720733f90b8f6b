"""The torch half: seeds, caches and budgets of time, on the toy recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import edgekd
from edgekd import recipe as recipes
from edgekd.distill import pace
from edgekd.errors import EdgekdError
from edgekd.run import Run
from edgekd.train import device, precision

SHORT = ["teacher.train.epochs=1", "prune.recovery.epochs=1", "compute.threads=1", "bench.rounds=5", "bench.warmup=1"]
LAYERS = "student='body.1', teacher='body.1'"

Builder = Callable[..., tuple[edgekd.Build, list[str]]]


@pytest.fixture
def build(
    copy_toy: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[edgekd.Build, list[str]]]:
    folder = copy_toy()
    recipe_file = folder / recipes.FILE_NAME
    text = recipe_file.read_text(encoding="utf-8")
    recipe_file.write_text(text.replace("[distill]\nepochs = 4\n", "[distill]\n"), encoding="utf-8")

    def run(*overrides: str, lines: list[str] | None = None) -> tuple[edgekd.Build, list[str]]:
        lines = [] if lines is None else lines
        given = [] if any("budget" in override for override in overrides) else ["distill.epochs=2"]
        recipe = recipes.load(folder, [*SHORT, *given, *overrides])
        # So short a training may leave a teacher that guesses.
        built = edgekd.build(
            recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"min_teacher": 0.0})}),
            targets=["arm64"], out=folder / "dist", run=Run(say=lines.append),
        )  # fmt: skip
        return built, lines

    return run


def test_seeds_give_mean_and_spread_and_the_first_one_goes_on(build: Builder) -> None:
    built, lines = build("distill.seeds=[5, 6]", "prune.recovery.seeds=[1, 2, 3]")
    report = built.bundles[0].report
    assert [(spread.row, len(spread.top1)) for spread in report.seeds] == [("student", 2), ("pruned", 3)]
    rows = {row.stage: row.top1 for row in report.accuracy}
    for spread in report.seeds:
        assert spread.top1[0] == rows[spread.row]
        assert spread.mean == pytest.approx(sum(spread.top1) / len(spread.top1))
    assert sum(line.startswith("distill runs") for line in lines) == 2
    assert sum(line.startswith("recover runs") for line in lines) == 3
    assert report.training["distill"]["seeds"] == [5, 6]


def test_cached_logits_are_kept_and_another_loss_does_not_ask_the_teacher_again(build: Builder) -> None:
    _, first = build("distill.teacher_cache={views=8}")
    assert sum(line.startswith("teach runs") for line in first) == 1
    _, second = build("distill.teacher_cache={views=8}", "distill.loss=[{kind='dkd'}, {kind='dist', standardize=true}]")
    assert "teach: unchanged, from the store" in second
    assert any(line.startswith("distill runs") for line in second)


def test_only_views_that_an_epoch_sees_are_filled(build: Builder) -> None:
    build("distill.teacher_cache={views=8}")
    built, lines = build("distill.teacher_cache={views=2}")
    assert "teach: unchanged, from the store" in lines
    assert "distill: unchanged, from the store" in lines
    assert built.bundles[0].report.training["distill"]["epochs"] == 2


@pytest.mark.slow
def test_another_student_does_not_train_the_teacher_again(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The precision of each network is measured for it alone; here the answers are given."""
    answers = iter(["bf16-mixed", "32-true", "bf16-mixed"])
    measured: list[int] = []

    def faster(module: nn.Module, *_: object) -> str:
        measured.append(sum(parameter.numel() for parameter in module.parameters()))
        return next(answers)

    monkeypatch.setattr(device, "multiplies_bf16", lambda: True)
    monkeypatch.setattr(precision, "faster", faster)
    build("compute.precision='auto'")
    _, lines = build("compute.precision='auto'", "student.args.width=48")
    assert "teacher: unchanged, from the store" in lines
    assert any(line.startswith("distill runs") for line in lines)
    assert len(measured) == len(set(measured)) == 3, "the teacher and two students, once each"


def test_losses_between_layers_train(build: Builder) -> None:
    losses = ", ".join(f"{{kind='{kind}', {LAYERS}}}" for kind in ("hint", "attention", "rkd", "sp"))
    built, lines = build(f"distill.loss=[{losses}]", "distill.clip=1.0")
    assert any(line.startswith("distill runs") for line in lines)
    assert len(built.bundles[0].report.accuracy) == 5


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("{kind='sp', student='body.9', teacher='body.1'}", 'the layer "body.9", which the student has not'),
        ("{kind='sp', student='body.1', teacher='bdy'}", 'the layer "bdy", which the teacher has not'),
        ("{kind='hint', student='body.0', teacher='head'}", "the loss hint cannot match these layers"),
    ],
)
def test_wrong_layers_are_named_before_any_training(build: Builder, loss: str, message: str) -> None:
    with pytest.raises(EdgekdError) as raised:
        build(f"distill.loss=[{loss}]")
    assert message in raised.value.message
    assert raised.value.hint


def test_a_budget_shorter_than_one_epoch_is_refused_before_any_training(build: Builder) -> None:
    lines: list[str] = []
    with pytest.raises(EdgekdError, match=r'distill: the budget "0\.001s" is shorter than one epoch') as raised:
        build("distill.budget='0.001s'", lines=lines)
    assert "raise the budget" in raised.value.hint
    assert not any(line.startswith("teacher runs") for line in lines)


@pytest.mark.slow
def test_a_budget_measured_without_a_teacher_does_not_count_with_one(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[float] = []

    def measure(*given: Any) -> int:
        measured.append(given[5].alpha)
        return len(measured)

    monkeypatch.setattr(pace, "epochs_within", measure)
    for alpha in (1.0, 0.1, 0.2):
        build("distill.budget='5m'", f"distill.alpha={alpha}")
    assert measured == [1.0, 0.1]


def test_a_budget_of_seconds_is_measured_and_kept(build: Builder) -> None:
    """The toy's epoch takes well under a second: some fit, and the choice is a plain number."""
    built, lines = build("distill.budget='3s'", "distill.teacher_cache={views=2}")
    assert any(line.startswith("rehearsal") for line in lines)
    epochs = built.bundles[0].report.training["distill"]["epochs"]
    assert epochs >= 1
    assert f"distill: the budget of 3s holds {epochs} epochs" in lines


def test_a_budget_becomes_a_number_of_epochs_once(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "epochs_within", lambda *_: 3)
    built, lines = build("distill.budget='5m'")
    assert "distill: the budget of 5m holds 3 epochs" in lines
    assert built.bundles[0].report.training["distill"]["epochs"] == 3
    monkeypatch.setattr(pace, "epochs_within", lambda *_: 99)
    _, again = build("distill.budget='5m'")
    assert "distill: the budget of 5m holds 3 epochs" in again
    assert "distill: unchanged, from the store" in again


def test_steps_of_pruning_end_at_the_budget_with_a_recovery_between(build: Builder) -> None:
    built, lines = build("prune.keep_macs=0.64", "prune.steps=2", "prune.block=4")
    assert sum(line.startswith("prune runs") for line in lines) == 2
    assert sum(line.startswith("recover runs") for line in lines) == 2
    pruning = built.bundles[0].report.pruning
    assert 0.5 < pruning["macs"] / pruning["macs_before"] <= 0.64
    assert all(left <= was for was, left in pruning["groups"].values())
