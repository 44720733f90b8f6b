"""Pruning to a latency, sparse weights and sparsity before a cut, on the toy recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import edgekd
from edgekd import cutting
from edgekd import recipe as recipes
from edgekd.bench.layers import Conditions
from edgekd.bench.measure import Measured, measure
from edgekd.errors import EdgekdError, RecipeError
from edgekd.latency import Grid, Layer, Table, widths_of
from edgekd.recipe import Bench
from edgekd.run import Run
from edgekd.runtime import Settings

SHORT = [
    "teacher.train.epochs=1", "distill.epochs=1", "compute.threads=1", "bench.rounds=5", "bench.warmup=1",
    "teacher.min_teacher=0.0",
]  # fmt: skip
ONCE = "recovery = { epochs = 1, batch = 64, augment = { crop = 1, flip = false } }"
Builder = Callable[..., tuple[edgekd.Build, list[str]]]


@pytest.fixture
def folder(copy_toy: Callable[[], Path]) -> Path:
    return copy_toy()


@pytest.fixture
def build(folder: Path) -> Builder:
    return lambda *given, lines=None: built_in(folder, *given, lines=lines)


def built_in(
    folder: Path, prune: str, *overrides: str, lines: list[str] | None = None
) -> tuple[edgekd.Build, list[str]]:
    lines = [] if lines is None else lines
    recipe = recipes.load(folder, [*SHORT, f"prune={{ {prune}, {ONCE} }}", *overrides])
    return edgekd.build(recipe, targets=["arm64"], out=folder / "dist", run=Run(say=lines.append)), lines


def by_size(models: Mapping[str, Path], settings: Settings, config: Bench) -> Measured:
    """A machine that takes as long as the file is large, and half of the whole file's time for nothing."""
    run = measure(models, settings, Bench(rounds=5, warmup=1))
    sizes = {name: file.stat().st_size for name, file in models.items()}
    whole = sizes["unpruned"]
    faster = {name: whole / (0.5 * whole + 0.5 * size) for name, size in sizes.items()}
    return run.model_copy(
        update={"faster": {name: run.faster[name].model_copy(update={"value": faster[name]}) for name in models}}
    )


def by_work(layers: Mapping[str, Layer], conditions: Conditions) -> Table:
    """A machine whose layers take as long as they have work."""
    grids = []
    for layer in layers.values():
        inputs, outputs = (widths_of(channels, conditions.block, 99) for channels in (layer.inputs, layer.outputs))
        work = layer.kernel[0] * layer.kernel[1] * layer.leaving[0] * layer.leaving[1] / 1000
        times = tuple(tuple(width * other * work for other in outputs) for width in inputs)
        grids.append(Grid(layer=layer, inputs=inputs, outputs=outputs, microseconds=times))
    paths = {path: number for number, path in enumerate(layers)}
    return Table(machine="", onnxruntime="", precision="int8", grids=tuple(grids), layers=paths)


@contextmanager
def machine() -> Iterator[None]:
    """A machine that is always the same: a toy net takes microseconds, which nobody can halve in a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "measure", by_size)
        patch.setattr(cutting.layers, "measure", by_work)
        yield


@pytest.fixture(scope="module")
def to_latency(copy_toy: Callable[[], Path]) -> tuple[Path, edgekd.Build, list[str]]:
    folder = copy_toy()
    with machine():
        return (folder, *built_in(folder, "keep_latency = 0.8, block = 2"))


def test_what_the_table_says_is_corrected_by_what_is_measured(to_latency: tuple[Path, edgekd.Build, list[str]]) -> None:
    _, built, lines = to_latency
    report = built.bundles[0].report
    rounds = report.pruning["latency"]["rounds"]
    assert 2 <= len(rounds) <= 4
    assert rounds[1]["keep"] < rounds[0]["keep"]
    assert report.pruning["latency"]["measured"] == min(
        (each["measured"] for each in rounds), key=lambda measured: abs(measured / 0.8 - 1)
    )
    assert report.pruning["latency"]["measured"] == pytest.approx(0.8, rel=0.05)
    assert sum("of the latency predicted" in line for line in lines) == len(rounds)
    assert [verdict.budget for verdict in report.unjudged] == ["prune.keep_latency"]
    assert any("are of this host: this machine is" in note for note in report.notes)


def test_the_table_and_the_measurements_are_kept(
    to_latency: tuple[Path, edgekd.Build, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = to_latency[0]
    tables = list((folder / ".edgekd").glob("prune-latencies-*.json"))
    assert len(tables) == 1
    assert {"machine", "onnxruntime", "precision", "grids", "layers"} == set(json.loads(tables[0].read_text()))

    def never(*_: object) -> Measured:
        raise AssertionError("measured again")

    monkeypatch.setattr(cutting, "measure", never)
    monkeypatch.setattr(cutting.layers, "measure", never)
    _, lines = built_in(folder, "keep_latency = 0.8, block = 2")
    assert "prune: unchanged, from the store" in lines


def test_a_training_that_is_not_made_yet_ends_a_plan_without_a_trace(
    to_latency: tuple[Path, edgekd.Build, list[str]],
) -> None:
    folder, lines = to_latency[0], list[str]()
    overrides = [*SHORT, f"prune={{ keep_latency = 0.8, block = 2, {ONCE} }}", "distill.lr=0.07"]
    edgekd.pipeline.plan(recipes.load(folder, overrides), ["arm64"], run=Run(say=lines.append))
    assert "distill would run: lr 0.1 -> 0.07" in lines
    assert lines[-2].startswith("everything after that runs too")


def test_the_latency_is_judged_for_the_first_target_alone(to_latency: tuple[Path, edgekd.Build, list[str]]) -> None:
    recipe = recipes.load(to_latency[0], [*SHORT, f"prune={{ keep_latency = 0.8, block = 2, {ONCE} }}"])
    built = edgekd.build(recipe, targets=["arm64", "cpu"], out=to_latency[0] / "two")
    first, second = (bundle.report for bundle in built.bundles)
    assert [verdict.budget for verdict in first.unjudged] == ["prune.keep_latency"]
    assert (second.budgets, second.latency is not None) == ((), True)
    assert any("for cpu none was asked" in note for note in second.notes)


def test_a_latency_that_nothing_reaches_is_refused_before_any_training(build: Builder) -> None:
    lines: list[str] = []
    with pytest.raises(EdgekdError, match=r"prune\.keep_latency = 0\.01: at least about 0\.\d{3} stays") as raised:
        build("keep_latency = 0.01", lines=lines)
    assert "raise prune.keep_latency" in raised.value.hint
    assert not any(line.startswith(("teacher runs", "distill runs")) for line in lines)


@pytest.mark.slow
def test_two_steps_to_a_latency_end_at_the_latency(build: Builder) -> None:
    with machine():
        built, lines = build("keep_latency = 0.75, block = 2, steps = 2")
    assert built.bundles[0].report.pruning["latency"]["measured"] == pytest.approx(0.75, rel=0.05)
    assert any(" 0.866 asked" in line for line in lines)
    assert sum(line.startswith("recover runs") for line in lines) == 2


def test_sparse_weights_stay_zero_through_recovery_and_the_report_says_what_they_bring(
    build: Builder, folder: Path
) -> None:
    built, _ = build('kind = "sparse", keep_weights = 0.3')
    (recovered,) = (folder / ".edgekd").glob("recover-*/network/weights.safetensors")
    weights = {name: value for name, value in load_file(recovered).items() if value.ndim > 1}
    left = sum(int(torch.count_nonzero(value)) for value in weights.values())
    assert left == round(0.3 * sum(value.numel() for value in weights.values()))
    report = built.bundles[0].report
    assert report.pruning["weights_kept"] == left
    assert any(note.startswith("sparse: 30.0 % of the weights") and "no faster" in note for note in report.notes)


@pytest.mark.slow
def test_n_of_m_in_a_build(build: Builder, folder: Path) -> None:
    build('kind = "sparse", pattern = "2:4"')
    (recovered,) = (folder / ".edgekd").glob("recover-*/network/weights.safetensors")
    weight = load_file(recovered)["body.1.0.weight"]
    runs = weight.movedim(1, -1).reshape(-1, 4)
    assert (torch.count_nonzero(runs, dim=1) == 2).all()


@pytest.mark.slow
def test_sparsity_before_the_cut_follows_its_groups(build: Builder, folder: Path) -> None:
    _, lines = build("keep_macs = 0.8, block = 4", "distill.sparsity=0.05")
    assert "couple runs: not run before" in lines
    (groups,) = (folder / ".edgekd").glob("couple-*/groups.json")
    assert {group["root"] for group in json.loads(groups.read_text())} == {"body.0.0", "body.1.0", "body.2.0"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["prune={ kind = 'sparse', keep_macs = 0.5 }"], r'unknown key "keep_macs" in \[prune\]'),
        (["prune={ kind = 'sparse', pattern = '5:4' }"], 'pattern = "5:4" keeps nothing, or more than there is'),
        (["prune={ kind = 'sparse', pattern = '2:4', keep_weights = 0.4 }"], "keep_weights and pattern are both given"),
        (["prune={ kind = 'layers' }"], 'there is no "layers"'),
        (["prune.keep_latency=0"], r"prune\.keep_latency = 0"),
        (["prune.keep_latency=1.5"], r"prune\.keep_latency = 1\.5"),
        (["prune.block='device'"], r"prune\.block"),
        (["distill.sparsity=1e-3", "prune={ kind = 'sparse' }"], "sparsity is of the channels"),
        (["prune.recovery.sparsity=1e-3"], "comes too late"),
    ],
)
def test_what_pruning_cannot_do_is_refused_in_one_line(folder: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipes.load(folder, overrides)
