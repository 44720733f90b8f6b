"""The stage `initialise`: a network is checked against the data before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd import ref
from edgekd.errors import ModelError
from edgekd.models import network
from edgekd.models.digits import digits_student
from edgekd.models.stage import count_parameters, initialise
from edgekd.recipe import Model, parse
from edgekd.run import Run
from edgekd.workload.normalisation import Normalisation

SPEC = "edgekd.models:digits_student"


def start(out: Path, weights: Path | None = None, classes: int = 10, seed: int = 0, **config: Any) -> dict[str, Any]:
    code = ref.resolve(SPEC, out.parent)
    return dict(
        initialise.function(
            out,
            Run(),
            code=code,
            weights=weights,
            config=Model(model=SPEC, **config),
            classes=classes,
            shape=(16, 16),
            seed=seed,
        )
    )


def test_class_count_mismatch_names_both_counts(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r'"edgekd\.models:digits_student" has 10 classes, the data has 7'):
        start(tmp_path / "net", classes=7)
    assert not (tmp_path / "net").exists()


def test_class_count_from_args_fits(tmp_path: Path) -> None:
    metrics = start(tmp_path / "net", classes=7, args={"num_classes": 7})
    assert metrics == {"parameters": count_parameters(digits_student(7))}
    assert network.load(tmp_path / "net", ref.resolve(SPEC, tmp_path)).plan.args == {"num_classes": 7}


def test_seed_decides_the_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        start(tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / name / network.WEIGHTS).read_bytes() for name in "abc")
    assert a == b != c


def test_given_weights_and_normalisation_are_taken(tmp_path: Path) -> None:
    torch.manual_seed(5)
    given = digits_student().state_dict()
    torch.save(given, tmp_path / "w.pt")
    start(tmp_path / "net", weights=tmp_path / "w.pt", mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    made = network.load(tmp_path / "net", ref.resolve(SPEC, tmp_path))
    assert made.plan.normalisation == Normalisation(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    assert all(torch.equal(given[name], value) for name, value in made.module.state_dict().items())


def test_network_that_takes_no_rgb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "grey.py").write_text("from torch import nn\ndef net():\n    return nn.Conv2d(1, 4, 3)\n")
    code = ref.resolve("grey:net", tmp_path)
    with pytest.raises(ModelError, match="does not run on 16×16 RGB images"):
        initialise.function(tmp_path / "net", Run(), code, None, Model(model="grey:net"), 4, (16, 16), 0)


def test_network_that_gives_no_logits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "maps.py").write_text("from torch import nn\ndef net():\n    return nn.Conv2d(3, 4, 3)\n")
    code = ref.resolve("maps:net", tmp_path)
    with pytest.raises(ModelError, match=r'"maps:net" gives \[1, 4, 14, 14\]'):
        initialise.function(tmp_path / "net", Run(), code, None, Model(model="maps:net"), 4, (16, 16), 0)


CHAINS = """
from torch import nn

def chain(classes, widths, head):
    layers, inputs = [], 3
    while widths:  # its own list: nobody else may see it shrink
        layers += [nn.Conv2d(inputs, widths[0], 3, padding=1), nn.ReLU()]
        inputs = widths.pop(0)
    for hidden in head["hidden"]:
        layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(inputs, hidden, 1, bias=head["bias"])]
        inputs = hidden
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
"""


def test_lists_and_tables_reach_the_callable_and_come_back_from_the_plan(tmp_path: Path) -> None:
    """A callable that empties the list it is given changes no plan: the network that was written is built again."""
    (tmp_path / "chains.py").write_text(CHAINS)
    args = {"classes": 10, "widths": [4, 6, 8], "head": {"hidden": [5], "bias": False}}
    values = {"name": "r", "data": {"source": "digits"}, "teacher": {"model": "chains:chain", "args": args}}
    teacher = parse(values, "r.toml", tmp_path).teacher
    code = ref.resolve("chains:chain", tmp_path)
    shape = (16, 16)
    initialise.function(
        tmp_path / "net", Run(), code=code, weights=None, config=teacher.bare(), classes=10, shape=shape, seed=0
    )
    again = network.load(tmp_path / "net", code)
    layers = [layer for layer in again.module.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == [4, 6, 8, 5]
    assert layers[-1].bias is None
    assert again.plan.args == args
