"""The stage `prune`: narrower, within the budget, and free of torch-pruning afterwards."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgekd import ref
from edgekd.errors import ModelError
from edgekd.models import network
from edgekd.models.network import Network, Plan
from edgekd.prune import macs
from edgekd.prune.stage import prune
from edgekd.recipe import Compute, Prune
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.train.device import resolve
from edgekd.workload import arrays
from edgekd.workload.dataset import Split

SHAPE = (16, 16)
PLACE = resolve(Compute())
NETS = """
from torch import nn

def vgg():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 16, 20), nn.ReLU(), nn.Linear(20, 4),
    )
"""
SPECS = ["edgekd.models:digits_student", "nets:vgg"]
WITHOUT_TORCH_PRUNING = """
import sys
sys.modules["torch_pruning"] = None
from pathlib import Path
import torch
from edgekd import ref
from edgekd.models import network
folder, spec = Path(sys.argv[1]), sys.argv[2]
module = network.load(folder / "narrow", ref.resolve(spec, folder)).module.eval()
with torch.inference_mode():
    torch.save(module(torch.ones(2, 3, 16, 16)), folder / "logits.pt")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    images = np.random.default_rng(0).integers(0, 256, (40, *SHAPE, 3), np.uint8)
    arrays.save(Split(images, np.zeros(40, np.int64)), tmp_path / "train")
    return tmp_path


def code_of(spec: str, folder: Path) -> Ref:
    return ref.resolve(spec, folder)


def pruned(folder: Path, spec: str, keep: float = 0.6, block: int = 4, **config: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    network.save(network.build(Plan(model=spec), code_of(spec, folder)), folder / "whole")
    return dict(
        prune.function(
            folder / "narrow",
            Run(),
            start=folder / "whole",
            code=code_of(spec, folder),
            train=folder / "train",
            table=None,
            watched=(),
            config=Prune(keep_macs=keep, block=block, **config),
            place=PLACE,
        )
    )


def narrow(folder: Path, spec: str) -> Network:
    return network.load(folder / "narrow", code_of(spec, folder))


@pytest.mark.parametrize("spec", SPECS)
def test_budget_is_kept_by_the_network_that_was_saved(folder: Path, spec: str) -> None:
    metrics = pruned(folder, spec)
    counted = sum(macs.per_layer(narrow(folder, spec).module, SHAPE).values())
    whole = network.load(folder / "whole", code_of(spec, folder)).module
    assert metrics["macs"] == counted
    assert metrics["macs_before"] == sum(macs.per_layer(whole, SHAPE).values())
    assert 0.2 * metrics["macs_before"] < counted <= 0.6 * metrics["macs_before"]
    assert metrics["predicted"]["keep_macs"] == counted / metrics["macs_before"]
    for before, after in metrics["groups"].values():
        assert 0 < after < before
        assert after % 4 == 0


@pytest.mark.parametrize("spec", SPECS)
def test_saved_network_loads_where_torch_pruning_cannot_be_imported(folder: Path, spec: str) -> None:
    pruned(folder, spec)
    command = [sys.executable, "-c", WITHOUT_TORCH_PRUNING, str(folder), spec]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with torch.inference_mode():
        here = narrow(folder, spec).module.eval()(torch.ones(2, 3, *SHAPE))
    assert torch.allclose(torch.load(folder / "logits.pt", weights_only=True), here, atol=1e-5)


def test_frozen_shortcuts_stay_frozen_and_zero_or_one(folder: Path) -> None:
    spec = SPECS[0]
    pruned(folder, spec)
    module = narrow(folder, spec).module
    shortcut = module.get_parameter("layer2.0.shortcut.weight")
    assert not shortcut.requires_grad
    assert set(shortcut.unique().tolist()) <= {0.0, 1.0}
    assert shortcut.sum(0).max().item() <= 1


def test_pruning_is_reproducible(folder: Path) -> None:
    pruned(folder, SPECS[0])
    first = (folder / "narrow" / network.WEIGHTS).read_bytes()
    pruned(folder, SPECS[0])
    assert (folder / "narrow" / network.WEIGHTS).read_bytes() == first


def test_a_pruned_network_can_be_pruned_again(folder: Path) -> None:
    spec = SPECS[0]
    first = pruned(folder, spec, keep=0.8)
    second = prune.function(
        folder / "again",
        Run(),
        folder / "narrow",
        code_of(spec, folder),
        folder / "train",
        None,
        (),
        Prune(keep_macs=0.7, block=4),
        PLACE,
    )
    assert second["macs_before"] == first["macs"]
    assert second["macs"] <= 0.7 * first["macs"]
    network.load(folder / "again", code_of(spec, folder))


def test_impossible_budget_names_what_can_be_reached(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"prune\.keep_macs = 0\.01: widths in multiples of 4 keep at least 0\.\d{3}"):
        pruned(folder, SPECS[0], keep=0.01)


def test_protected_layer_keeps_its_width(folder: Path) -> None:
    pruned(folder, "nets:vgg", keep=0.7, protect=("9",))
    module = narrow(folder, "nets:vgg").module
    assert module.get_submodule("9").weight.shape[0] == 20


def test_batchnorm_statistics_are_those_of_the_training_images(folder: Path) -> None:
    pruned(folder, "nets:vgg")
    module = narrow(folder, "nets:vgg").module.double()
    pixels = torch.from_numpy(arrays.load(folder / "train").images).permute(0, 3, 1, 2)
    conv, norm = module.get_submodule("0"), module.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        values = conv((pixels.double() - 128) / 64).transpose(0, 1).flatten(1)
    assert torch.allclose(norm.running_mean, values.mean(1), atol=1e-5)
    assert torch.allclose(norm.running_var, values.var(1), rtol=1e-4)
    assert norm.momentum == 0.1


def test_dropout_leaves_the_new_statistics_alone(folder: Path) -> None:
    """With another state of the random generator the bytes are the same."""
    (folder / "drop.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.Dropout(0.5), "
        "nn.Conv2d(16, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))\n",
        encoding="utf-8",
    )
    pruned(folder, "drop:net")
    first = (folder / "narrow" / network.WEIGHTS).read_bytes()
    torch.rand(7)
    prune.function(
        folder / "later",
        Run(),
        folder / "whole",
        code_of("drop:net", folder),
        folder / "train",
        None,
        (),
        Prune(keep_macs=0.6, block=4),
        PLACE,
    )
    assert (folder / "later" / network.WEIGHTS).read_bytes() == first


@pytest.mark.parametrize("importance", ["l1", "l2", "fpgm", "lamp", "taylor", "activation", "random"])
def test_every_importance_reaches_the_budget_and_is_deterministic(folder: Path, importance: str) -> None:
    metrics = pruned(folder, "nets:vgg", importance=importance, images=32)
    first = (folder / "narrow" / network.WEIGHTS).read_bytes()
    assert metrics["macs"] <= 0.6 * metrics["macs_before"]
    assert pruned(folder, "nets:vgg", importance=importance, images=32) == metrics
    assert (folder / "narrow" / network.WEIGHTS).read_bytes() == first


def test_batchnorm_scales_decide_where_every_group_has_one(folder: Path) -> None:
    assert pruned(folder, "edgekd.models:digits_student", importance="batchnorm")["groups"]


def test_a_budget_of_parameters_holds(folder: Path) -> None:
    metrics = pruned(folder, "nets:vgg", keep=1.0, keep_params=0.4)
    assert metrics["parameters"] <= 0.4 * metrics["parameters_before"]
    weights = network.load(folder / "narrow", code_of("nets:vgg", folder)).module.parameters()
    assert sum(each.numel() for each in weights) == metrics["parameters"]


ODD = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.mixed = nn.Conv2d(16, 16, 3, padding=1)
        self.body = nn.Conv2d(16, 32, 3, padding=1)
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        x = self.stem(x)
        x = self.mixed(x * torch.sigmoid(x.mean(1, keepdim=True))).relu()
        return self.head(self.body(x).relu().mean((2, 3)))

class Still(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))
"""


def test_channels_that_an_operator_mixes_stay_whole_and_are_named(folder: Path) -> None:
    (folder / "odd.py").write_text(ODD)
    lines: list[str] = []
    torch.manual_seed(0)
    network.save(network.build(Plan(model="odd:Odd"), code_of("odd:Odd", folder)), folder / "whole")
    metrics = prune.function(
        folder / "narrow", Run(say=lines.append), folder / "whole", code_of("odd:Odd", folder), folder / "train",
        None, (), Prune(keep_macs=0.6, block=4), PLACE,
    )  # fmt: skip
    assert "stem" not in metrics["groups"]
    assert metrics["stay_whole"]["stem"].startswith("they are mixed with others")
    assert any(line.startswith("prune: the channels of stem, mixed stay whole: they are mixed") for line in lines)
    assert metrics["macs"] <= 0.6 * metrics["macs_before"]


def test_where_too_much_stays_whole_the_error_says_what_and_why(folder: Path) -> None:
    (folder / "odd.py").write_text(ODD)
    torch.manual_seed(0)
    network.save(network.build(Plan(model="odd:Odd"), code_of("odd:Odd", folder)), folder / "whole")
    with pytest.raises(ModelError, match="keep at least") as raised:
        prune.function(
            folder / "narrow", Run(), folder / "whole", code_of("odd:Odd", folder), folder / "train",
            None, (), Prune(keep_macs=0.05, block=1), PLACE,
        )  # fmt: skip
    least = re.search(r"keep at least (0\.\d{3})", raised.value.message)
    assert least is not None
    found = re.match(
        r"raise prune\.keep_macs to (0\.\d{3}) or more; stem \((\d+) % of the work\) keep", raised.value.hint
    )
    assert found is not None
    assert float(found[1]) == pytest.approx(float(least[1]), abs=2e-3)
    # The stem reads 3 channels of 16 × 16 pixels, and all but the head works on as many pixels.
    assert int(found[2]) == round(100 * 3 * 16 / (3 * 16 + 16 * 16 + 16 * 32))
    assert "they are mixed with others" in raised.value.hint


def hint_of(folder: Path, keep: float, **config: Any) -> str:
    with pytest.raises(ModelError, match="keep at least") as raised:
        pruned(folder, "nets:vgg", keep, **config)
    return raised.value.hint


def test_a_budget_that_another_block_reaches_names_the_block_and_the_least_that_it_keeps(folder: Path) -> None:
    """Both promises hold: the least as it is, and that with a block of 1."""
    hint = hint_of(folder, 0.1, block=8)
    found = re.match(
        r"raise prune\.keep_macs to (0\.\d{3}) or more; or lower prune\.block, now 8: with 1 .* (0\.\d{3})", hint
    )
    assert found is not None, hint
    least, with_one = float(found[1]), float(found[2])
    assert with_one < least
    pruned(folder, "nets:vgg", least, block=8)
    pruned(folder, "nets:vgg", with_one + 0.001, block=1)


def test_a_block_that_changes_nothing_is_not_suggested_and_what_stays_whole_is_named(folder: Path) -> None:
    """Every layer but the logits' is protected: no block helps, and the parts of the work add up to all of it."""
    hint = hint_of(folder, 0.5, protect=("0", "3", "6", "9"))
    assert hint.startswith("raise prune.keep_macs to 1.000 or more; ")
    assert "prune.block" not in hint
    assert "keep all their channels: prune.protect names them" in hint
    assert sum(int(part) for part in re.findall(r"\((\d+) % of the work\)", hint)) == pytest.approx(100, abs=1)


def test_a_network_without_layers_is_refused(folder: Path) -> None:
    (folder / "odd.py").write_text(ODD)
    code = code_of("odd:Still", folder)
    (folder / "whole").mkdir()
    network.save(network.build(Plan(model="odd:Still"), code), folder / "whole")
    with pytest.raises(ModelError, match="runs no convolution and no linear layer"):
        prune.function(folder / "narrow", Run(), folder / "whole", code, folder / "train", None, (), Prune(), PLACE)
