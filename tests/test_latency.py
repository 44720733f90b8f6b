"""The table of latencies as a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekd.latency import Grid, Layer, Table, widths_of

LAYER = Layer(kind="conv", inputs=32, outputs=64, kernel=(3, 3), size=(8, 8))
GRID = Grid(layer=LAYER, inputs=(16, 32), outputs=(16, 64), microseconds=((2.0, 6.0), (4.0, 12.0)))


@pytest.mark.parametrize(
    ("inputs", "outputs", "wanted"),
    [(16, 16, 2.0), (32, 64, 12.0), (24, 16, 3.0), (16, 40, 4.0), (24, 40, 6.0), (3, 5, 2.0)],
)
def test_between_measured_widths_time_is_linear_in_either_side(inputs: int, outputs: int, wanted: float) -> None:
    assert GRID.at(inputs, outputs) == pytest.approx(wanted)


def test_narrower_never_counts_as_slower() -> None:
    noisy = Grid(layer=LAYER, inputs=(16, 32), outputs=(16, 64), microseconds=((2.0, 1.5), (1.0, 5.0)))
    assert [noisy.at(16, 16), noisy.at(16, 64), noisy.at(32, 16), noisy.at(32, 64)] == [2.0, 2.0, 2.0, 5.0]


def test_a_depthwise_layer_is_looked_up_by_its_outputs() -> None:
    layer = Layer(kind="depthwise", inputs=32, outputs=32)
    grid = Grid(layer=layer, inputs=(32,), outputs=(16, 32), microseconds=((1.0, 3.0),))
    assert grid.at(24, 24) == pytest.approx(2.0)


def test_a_table_finds_a_layer_by_its_path_and_knows_nothing_of_others() -> None:
    table = Table(machine="m", onnxruntime="1", precision="int8", grids=(GRID,), layers={"a": 0, "b": 0})
    assert table.at("b", 32, 64) == 12.0
    assert table.at("shortcut", 32, 64) == 0.0
    assert Table.model_validate_json(table.model_dump_json()) == table


@given(channels=st.integers(1, 2048), block=st.integers(1, 32), most=st.integers(1, 8))
def test_measured_widths_are_few_admissible_and_end_with_all_channels(channels: int, block: int, most: int) -> None:
    widths = widths_of(channels, block, most)
    assert 1 <= len(widths) <= max(1, most)
    assert list(widths) == sorted(set(widths))
    assert all(width % block == 0 or width == channels for width in widths)
    assert most == 1 or widths[-1] == channels
