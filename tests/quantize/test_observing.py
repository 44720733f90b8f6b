"""What calibration sees: every value of every image, in memory that does not grow with their number."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

from edgekd.errors import ModelError
from edgekd.quantize.feed import Feed, Inputs
from edgekd.quantize.histogram import Counts
from edgekd.quantize.observing import load, observe
from edgekd.quantize.patches import per_input, under_taps
from edgekd.quantize.qdq import KINDS
from edgekd.quantize.wiring import Wiring, geometry
from tests.quantize.graphs import feed, graph, images, node, run, two_layers, values_of

NAMES = ["x", "r", "y"]


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, given: np.ndarray) -> None:
        self.batches = iter([{"x": given[start : start + 7]} for start in range(0, len(given), 7)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def assert_numpys(found: Counts, values: np.ndarray) -> None:
    """Equal to numpy's own but for values on an edge between two bins: float32 against float64."""
    theirs, _ = np.histogram(values.astype(np.float64), len(found.counts), (found.low, found.high))
    assert np.abs(np.cumsum(found.counts) - np.cumsum(theirs)).max() <= max(3, values.size // 10000)


def quiet(done: int, total: int) -> None:
    assert total > 0


def test_ranges_are_those_of_onnxruntimes_min_max_calibrator(tmp_path: Path) -> None:
    model = two_layers()
    onnx.save(model, tmp_path / "model.onnx")
    calibrator = create_calibrator(
        str(tmp_path / "model.onnx"), sorted(KINDS), str(tmp_path / "augmented.onnx"), CalibrationMethod.MinMax
    )
    calibrator.collect_data(Reader(images(50)))
    theirs = calibrator.compute_data()
    ours = observe(model, NAMES, feed(images(50)), "none", quiet)
    for name in NAMES:
        low, high = (float(np.squeeze(end)) for end in theirs[name].range_value)
        assert (ours.low[name], ours.high[name]) == (pytest.approx(low), pytest.approx(high))


def test_histograms_hold_every_value_and_are_numpys() -> None:
    given = images(50)
    seen = observe(two_layers(), NAMES, feed(given), "all", quiet)
    assert seen.images == 50
    assert {name: int(found.counts.sum()) for name, found in seen.counts.items()} == {
        "x": given.size, "r": 50 * 6 * 64, "y": 50 * 4 * 64,
    }  # fmt: skip
    found = seen.counts["x"]
    assert_numpys(found, given)


@pytest.mark.parametrize(("stride", "dilation", "pads"), [(1, 1, [1, 1, 1, 1]), (2, 1, [0, 1, 1, 0]), (1, 2, [2] * 4)])
def test_the_mean_patch_gives_the_mean_output(stride: int, dilation: int, pads: list[int]) -> None:
    """A convolution is linear: weight times mean patch is the mean of its outputs, borders included."""
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((4, 3, 3, 3)).astype(np.float32)
    conv = node("Conv", ["x", "w"], "y", pads=pads, strides=[stride] * 2, dilations=[dilation] * 2)
    given = images(9)
    out = run(graph([conv], {"w": weight}, made=["N", 4, "H", "W"]), given)
    patch = under_taps(given.mean(0, dtype=np.float64), geometry(conv, weight))
    expected = (weight * per_input(patch, conv, 4)).reshape(4, -1).sum(1)
    assert np.allclose(out.mean((0, 2, 3)), expected, atol=1e-5)


def test_a_value_that_is_no_number_is_named_with_its_image() -> None:
    given = images(40)
    given[33, 1, 2, 2] = np.nan
    with pytest.raises(ModelError, match='tensor "x" has NaN values on calibration image 33'):
        observe(two_layers(), NAMES, feed(given), "none", quiet)


def test_an_overflow_inside_the_graph_is_named_by_its_tensor() -> None:
    model = two_layers()
    Wiring(model).set("w2", np.sign(values_of(model)["w2"]) * 1e38)
    with pytest.raises(ModelError, match='tensor "y" has'):
        observe(model, NAMES, feed(images(4) * 1e5), "none", quiet)


def test_data_of_another_shape_is_refused_with_both_shapes() -> None:
    with pytest.raises(ModelError, match=r"does not take the data \(x float32 \[1, 5, 8, 8\]\)"):
        observe(two_layers(), NAMES, feed(images(4, channels=5)), "none", quiet)


def test_saved_and_loaded_it_is_the_same_and_its_bytes_are_equal(tmp_path: Path) -> None:
    seen = observe(two_layers(), NAMES, feed(images(10)), "all", quiet)
    for name in "ab":
        seen.save(tmp_path / f"{name}.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    found = load(tmp_path / "a.npz")
    assert (found.images, dict(found.low), dict(found.high)) == (10, dict(seen.low), dict(seen.high))
    assert all(np.array_equal(found.counts[name].counts, seen.counts[name].counts) for name in NAMES)
    assert {name: each.high for name, each in found.counts.items()} == {n: c.high for n, c in seen.counts.items()}
    assert all(np.array_equal(found.patches[name], seen.patches[name]) for name in seen.patches)
    assert set(found.patches) == {"conv_c", "conv_y"}


def test_a_sample_of_a_large_tensor_is_spread_over_rows_and_columns_and_of_a_small_one_is_all() -> None:
    model = two_layers()
    side = 84
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_value = side
    given = np.tile(np.arange(side, dtype=np.float32), (8, 3, side, 1))
    seen = observe(model, ["x"], feed(given), "sample", quiet).counts["x"]
    whole = observe(model, ["x"], feed(given), "all", quiet).counts["x"]
    assert whole.counts.sum() == given.size
    assert seen.counts.sum() == pytest.approx(given.size, rel=0.01)
    columns = seen.counts[seen.counts > 0]
    assert len(columns) == side, "a step of 2 or 7 would have missed most columns"
    assert np.abs(columns / whole.counts[whole.counts > 0] - 1).max() < 0.05
    small = images(3)
    assert observe(two_layers(), NAMES, feed(small), "sample", quiet).counts["x"].counts.sum() == small.size


def test_one_bright_pixel_in_each_image_is_in_the_sample() -> None:
    model = two_layers()
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_value = 84
    given = np.zeros((64, 3, 84, 84), np.float32)
    given[:32, 1, 33, 7], given[32:, 1, 33, 7] = 100.0, -90.0
    seen = observe(model, ["x"], feed(given), "sample", quiet).counts["x"]
    assert (seen.counts[0], seen.counts[-1]) == (32, 32)


def test_tensors_without_values_or_axes_are_observed_and_images_are_those_of_the_input() -> None:
    nodes = [
        node("ReduceMean", ["x"], "mean", keepdims=0),
        node("Slice", ["x", "one", "one"], "none"),
        node("Mul", ["x", "mean"], "y"),
    ]
    model = graph(nodes, {"one": np.array([1], np.int64)}, made=("N", 3, 8, 8))
    given = images(5)
    seen = observe(model, ["mean", "none", "y"], feed(given), "sample", quiet)
    assert seen.images == 5
    assert (seen.low["none"], seen.high["none"]) == (0.0, 0.0)
    assert seen.low["mean"] == pytest.approx(given.mean(), abs=1e-6)


def test_memory_does_not_grow_with_the_number_of_images() -> None:
    """The images are made on demand, so that what is held is what calibration holds."""

    model = two_layers()
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_value = 64

    def peak(count: int) -> int:
        made = Feed(count, lambda start, stop: {"x": images(stop - start, side=64, seed=start)})
        tracemalloc.start()
        observe(model, NAMES, made, "all", quiet)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(128), peak(1024)
    assert many < 1.5 * few, "one batch more or less may be waiting"


def test_images_of_several_sizes_are_all_seen_and_each_counts_alike() -> None:
    """The mean patch is that of each size by itself, weighted by its images; ranges are over all."""
    model = two_layers()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "W"
    del model.graph.output[0].type.tensor_type.shape.dim[2:]
    model.graph.output[0].type.tensor_type.shape.dim.add().dim_param = "H"
    model.graph.output[0].type.tensor_type.shape.dim.add().dim_param = "W"
    parts = [images(20, side=8), images(70, side=12, seed=1)]

    def take(start: int, stop: int) -> Inputs:
        return {"x": parts[0][start:stop] if start < 20 else parts[1][start - 20 : stop - 20]}

    both = observe(model, NAMES, Feed(90, take, (20, 70)), "all", quiet)
    alone = [observe(model, NAMES, feed(part), "all", quiet) for part in parts]
    assert both.images == 90
    for name in NAMES:
        assert both.low[name] == min(each.low[name] for each in alone)
        assert int(both.counts[name].counts.sum()) == sum(int(each.counts[name].counts.sum()) for each in alone)
    for name, found in both.patches.items():
        wanted = (20 * alone[0].patches[name] + 70 * alone[1].patches[name]) / 90
        assert np.allclose(found, wanted, rtol=1e-5, atol=1e-7)
