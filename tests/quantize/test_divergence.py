"""What an output loses is told by its worst group of channels, never by a tensor as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekd import ref
from edgekd.errors import ModelError
from edgekd.quantize.divergence import Difference, Measure, listed
from edgekd.quantize.trial import sqnr


def detections(samples: int = 8, anchors: int = 500, seed: int = 0) -> NDArray[np.float32]:
    """Boxes 0-320 in four channels, and scores of three classes that are rarely above 0.1, as [N, 7, anchors]."""
    generator = np.random.default_rng(seed)
    boxes = generator.uniform(0, 320, (samples, 4, anchors))
    scores = generator.uniform(0, 0.02, (samples, 3, anchors))
    scores[:, :2, :5] = generator.uniform(0.5, 1, (samples, 2, 5))  # no sample shows the third class
    return np.concatenate([boxes, scores], 1).astype(np.float32)


def on_one_grid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    step = values.max() / 255
    return np.asarray(np.rint(values / step) * step, np.float32)


def lost(parent: NDArray[np.float32], found: NDArray[np.float32], *classes: str) -> Difference:
    (difference,) = Measure(classes).differences({"y": parent}, {"y": found})
    return difference


def test_scores_that_are_lost_beside_boxes_are_found() -> None:
    parent = detections()
    broken = on_one_grid(parent)
    error = np.linalg.norm(broken - parent) / np.linalg.norm(parent)
    assert error < 0.01, "over the whole tensor nothing seems lost"
    found = lost(parent, broken)
    assert found.lost > 0.2
    assert found.channels == (4, 5, 6)
    assert found.words == 'of the variance of "y" (channels 4-6)'


def test_a_grid_of_their_own_keeps_scores_and_a_class_that_no_sample_shows_does_not_matter() -> None:
    parent = detections()
    careful = np.concatenate([on_one_grid(parent[:, :4]), on_one_grid(parent[:, 4:])], 1)
    unseen = lost(parent[:, 6:], careful[:, 6:])
    assert unseen.lost > 0.001, "on its own it would count its noise against next to nothing"
    assert lost(parent, careful).lost < 0.001


def test_of_values_the_part_of_the_variance_counts_in_float64() -> None:
    generator = np.random.default_rng(0)
    parent = generator.normal(50, 2, (6, 3, 9, 9)).astype(np.float32)
    found = parent + generator.normal(0, 0.5, parent.shape).astype(np.float32)
    one, other = parent.astype(np.float64), found.astype(np.float64)
    centred = one - one.mean((0, 2, 3), keepdims=True)
    expected = ((other - one) ** 2).sum() / (centred**2).sum()
    assert lost(parent, found).lost == pytest.approx(expected, rel=1e-3)


def test_of_classes_and_integers_the_part_that_differs_counts() -> None:
    scores = np.eye(4, dtype=np.float32)[np.arange(20) % 4]
    changed = scores.copy()
    changed[:3] = np.roll(changed[:3], 1, axis=1)
    assert (lost(scores, changed, "y").kind, lost(scores, changed, "y").lost) == ("classes", pytest.approx(3 / 20))
    assert lost(scores, changed).kind == "values"
    whole = lost(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 0]))  # type: ignore[arg-type]
    assert (whole.kind, whole.lost) == ("integers", 0.5)


def test_against_answers_that_are_all_zero_any_other_loses_everything_and_none_nothing() -> None:
    zero = np.zeros((4, 3), np.float32)
    found = zero.copy()
    found[1, 2] = 1e-3
    assert (lost(zero, found).lost, lost(zero, zero).lost) == (1.0, 0.0)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_the_float_graph_gives_no_number_for_is_right_where_it_stays_the_same(odd: float) -> None:
    parent = detections()
    parent[:, 2, :7] = odd
    found = on_one_grid(np.nan_to_num(parent, nan=0, posinf=0, neginf=0))
    plain = np.nan_to_num(parent, nan=0, posinf=0, neginf=0)
    assert lost(parent, found).lost == 1.0
    found[:, 2, :7] = odd
    kept = found.copy()
    kept[:, 2, :7] = 0
    assert lost(parent, found).lost == lost(plain, kept).lost < 1.0


def test_a_float_graph_without_one_finite_answer_is_an_error() -> None:
    with pytest.raises(ModelError, match='answers nothing but NaN and infinity as "y"'):
        lost(np.full((4, 3), np.nan, np.float32), np.zeros((4, 3), np.float32))


@pytest.mark.parametrize("spoiled", [np.nan, np.inf])
def test_answers_that_are_not_finite_lose_everything(spoiled: float) -> None:
    parent = detections()
    found = parent.copy()
    found[0, 0, 0] = spoiled
    assert lost(parent, found).lost == 1.0


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(0, 1))
def test_what_is_lost_lies_between_0_and_1_and_does_not_depend_on_an_outputs_unit(
    seed: int, unit: float, noise: float
) -> None:
    generator = np.random.default_rng(seed)
    parent = generator.normal(0, 3, (4, 5, 20)).astype(np.float32)
    found = parent + noise * generator.normal(0, 3, parent.shape).astype(np.float32)
    one, other = (lost(parent * np.float32(each), found * np.float32(each)).lost for each in (1, unit))
    assert 0 <= one <= 1
    # Scores are known by lying between 0 and 1, which these do not in any unit.
    assert other == pytest.approx(one, rel=1e-3, abs=1e-6)
    assert lost(parent, parent).lost == 0


def test_a_ratio_counts_scores_beside_boxes() -> None:
    parent = detections()
    assert sqnr({"y": parent}, {"y": on_one_grid(parent)}) < 20


def test_channels_are_named_by_runs() -> None:
    assert listed((0, 1, 2, 3, 7, 9, 10)) == "channels 0-3, 7, 9-10"


METRIC = """
def recall(parent, found):
    return float((found["y"] < 1).mean())

def broken(parent, found):
    return parent["z"]

def too_much(parent, found):
    return 2
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "mymetric.py").write_text(METRIC)
    return tmp_path


def test_the_users_own_metric_decides(module: Path) -> None:
    measure = Measure((), ref.resolve("mymetric:recall", module))
    answers = {"y": np.array([0.0, 1.0, 1.0, 1.0])}
    assert measure.lost(answers, answers) == 0.25
    assert measure.words(measure.differences(answers, answers)) == "by mymetric:recall"


@pytest.mark.parametrize(
    ("name", "message"), [("broken", "failed: KeyError: 'z'"), ("too_much", "mymetric:too_much returned 2")]
)
def test_a_metric_that_fails_or_returns_no_part_is_an_error(module: Path, name: str, message: str) -> None:
    measure = Measure((), ref.resolve(f"mymetric:{name}", module))
    with pytest.raises(ModelError, match=message):
        measure.lost({"y": np.zeros(3)}, {"y": np.zeros(3)})
