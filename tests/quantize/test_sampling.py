"""A sample is as good as all values for the range with the least squared error, however rare the large ones are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from edgekd.quantize.calibrate import range_of
from edgekd.quantize.grid import of_activation
from edgekd.quantize.histogram import Histogram
from edgekd.quantize.observing import Counting, observe
from edgekd.quantize.sampling import count_sample
from edgekd.recipe import Quantize
from edgekd.target import Int8
from tests.quantize.graphs import feed, two_layers


def heavy_tailed(kind: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A bell, of which one value in 10^4 or 10^5 is far larger; Laplace's; Student's with 3 degrees of freedom."""
    generator = np.random.default_rng(seed)
    if kind == "Laplace":
        return generator.laplace(size=shape).astype(np.float32)
    if kind == "Student":
        return generator.standard_t(3, shape).astype(np.float32)
    values = generator.standard_normal(shape)
    rare, times = (1e-4, 15.0) if kind == "one in 10^4" else (1e-5, 30.0)
    return np.where(generator.random(shape) < rare, times * values, values).astype(np.float32)


def network(side: int) -> ModelProto:
    model = two_layers()
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_value = side
    return model


def sqnr(values: np.ndarray, counting: Counting) -> float:
    """In dB, of the values on the grid that `mse` finds for the network's input."""
    seen = observe(network(values.shape[-1]), ["x"], feed(values), counting, lambda *_: None)
    rounded = of_activation(*range_of(seen, "x", Int8(), Quantize(calibrator="mse")), Int8()).rounded(values)
    return float(10 * np.log10((values.astype(np.float64) ** 2).sum() / ((values - rounded) ** 2).sum()))


@pytest.mark.parametrize("kind", ["one in 10^4", "one in 10^5", "Laplace", "Student"])
@pytest.mark.parametrize("side", [32, 84, 160])
def test_64_images_of_a_heavy_tail_are_as_good_as_counting_all(kind: str, side: int) -> None:
    values = heavy_tailed(kind, (64, 3, side, side))
    assert sqnr(values, "sample") >= sqnr(values, "all") - 0.5


def test_a_small_tensor_is_counted_as_a_whole_in_batches_of_any_size() -> None:
    values = heavy_tailed("Student", (64, 3, 36, 36))
    assert values.size <= 2**18
    whole, seen = (observe(network(36), ["x"], feed(values), kind, lambda *_: None) for kind in ("all", "sample"))
    assert np.array_equal(seen.counts["x"].counts, whole.counts["x"].counts)


@pytest.mark.parametrize("total", [2**20, 2**24])
def test_a_sample_stands_for_all_values_near_and_far(total: int) -> None:
    """Batches of 2^20 values; of 16 such, one value in 15 is searched for large ones."""
    values = heavy_tailed("Laplace", (2**20,))
    ends = float(values.min()), float(values.max())
    sampled, whole = Histogram(), Histogram()
    whole.add(values, *ends)
    count_sample(sampled, values, ends, 0, total)
    one, other = sampled.counts(), whole.counts()
    assert one.counts.sum() == pytest.approx(values.size, rel=0.01)
    edges = np.linspace(one.low, one.high, len(one.counts) + 1)[:-1]
    for least in (0.5, 2.0, 8.0):
        wanted = int((np.abs(values) >= least).sum())
        found = int(one.counts[np.abs(edges + (one.high - one.low) / len(one.counts) / 2) >= least].sum())
        assert found == pytest.approx(wanted, rel=0.1)
    if total == 2**20:
        assert (one.low, one.high) == (other.low, other.high)


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    values = heavy_tailed("one in 10^4", (64, 3, 84, 84))
    for name in "ab":
        observe(network(84), ["x", "r", "y"], feed(values), "sample", lambda *_: None).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
