"""Shapes of layers, as a table asks for them."""

from torch import Tensor, nn

from edgekd.latency import Grid, Layer, Table
from edgekd.prune.shapes import layers_of, prices


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, (3, 5), stride=(2, 1), padding=(1, 2))
        self.deep = nn.Conv2d(8, 8, 3, padding="same", dilation=2, groups=8)
        self.grouped = nn.Conv2d(8, 4, 1, groups=2)
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grouped(self.deep(self.conv(x))).mean((2, 3)))


def test_every_layer_that_runs_has_its_shape() -> None:
    assert layers_of(Net(), (8, 6)) == {
        "conv": Layer(kind="conv", inputs=3, outputs=8, kernel=(3, 5), stride=(2, 1), padding=(1, 2), size=(8, 6)),
        "deep": Layer(
            kind="depthwise", inputs=8, outputs=8, kernel=(3, 3), padding=(2, 2), dilation=(2, 2), size=(4, 6)
        ),
        "grouped": Layer(kind="conv", inputs=8, outputs=4, groups=2, size=(4, 6)),
        "head": Layer(kind="linear", inputs=4, outputs=2),
    }


def test_prices_are_looked_up_at_what_is_left_of_the_layer() -> None:
    layer = Layer(kind="linear", inputs=4, outputs=2)
    grid = Grid(layer=layer, inputs=(2, 4), outputs=(1, 2), microseconds=((1.0, 2.0), (3.0, 8.0)))
    table = Table(machine="", onnxruntime="", precision="int8", grids=(grid,), layers={"head": 0})
    found = prices(Net(), (8, 6), table)
    assert found["head"](1.0, 1.0) == 8.0
    assert found["head"](0.5, 0.5) == 1.0
    assert found["conv"](1.0, 1.0) == 0.0


def test_a_network_that_was_cut_before_is_priced_by_the_table_of_the_whole() -> None:
    layer = Layer(kind="linear", inputs=4, outputs=2)
    grid = Grid(layer=layer, inputs=(2, 4), outputs=(2,), microseconds=((1.0,), (3.0,)))
    table = Table(machine="", onnxruntime="", precision="int8", grids=(grid,), layers={"0": 0})
    narrow = nn.Sequential(nn.Linear(2, 2), nn.Flatten())
    narrow.forward = lambda x: narrow[0](x[:, :2, 0, 0])  # type: ignore[method-assign]
    assert prices(narrow, (4, 4), table)["0"](1.0, 1.0) == 1.0


def test_looking_leaves_no_hook() -> None:
    module = Net()
    layers_of(module, (8, 6))
    assert not any(layer._forward_hooks for layer in module.modules())


def test_a_layer_that_is_called_twice_costs_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x))

    layer = Layer(kind="conv", inputs=3, outputs=3, size=(4, 4))
    grid = Grid(layer=layer, inputs=(3,), outputs=(3,), microseconds=((5.0,),))
    table = Table(machine="", onnxruntime="", precision="int8", grids=(grid,), layers={"conv": 0})
    assert prices(Twice(), (4, 4), table)["conv"](1.0, 1.0) == 10.0
