"""A network as files: bit-equal round trips, mismatches named, nothing executed."""

import io
import os
import pickle
import random
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from edgekd import ref
from edgekd.errors import ModelError
from edgekd.models import network
from edgekd.models.network import Plan, Width
from edgekd.workload.normalisation import Normalisation

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=4, bias=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.head = nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.deep(self.norm(self.conv(x)).relu()).mean((2, 3)))

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.two = nn.Linear(3, 3)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(self.one(x.mean((2, 3))))

def not_a_module():
    return 3
"""
PLAN = Plan(model="nets:Net", args={"classes": 5, "bias": True}, normalisation=Normalisation(mean=(1, 2, 3)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


def made(folder: Path, plan: Plan = PLAN, seed: int = 0) -> network.Network:
    torch.manual_seed(seed)
    return network.build(plan, ref.resolve(plan.model, folder))


def test_round_trip_is_bit_equal_with_the_same_plan(folder: Path) -> None:
    before = made(folder)
    network.save(before, folder / "saved")
    after = network.load(folder / "saved", ref.resolve(PLAN.model, folder))
    wanted = before.module.state_dict()
    assert after.plan == PLAN
    assert wanted.keys() == after.module.state_dict().keys()
    assert all(torch.equal(wanted[name], value) for name, value in after.module.state_dict().items())


def test_saved_bytes_are_reproducible(folder: Path) -> None:
    for name in ("one", "two"):
        network.save(made(folder), folder / name)
    for file in (network.WEIGHTS, network.PLAN):
        assert (folder / "one" / file).read_bytes() == (folder / "two" / file).read_bytes()


def test_channels_last_weights_save_the_same_bytes(folder: Path) -> None:
    net = made(folder)
    network.save(net, folder / "plain")
    net.module.to(memory_format=torch.channels_last)
    network.save(net, folder / "last")
    assert (folder / "plain" / network.WEIGHTS).read_bytes() == (folder / "last" / network.WEIGHTS).read_bytes()


def test_shared_weights_are_saved_under_both_names(folder: Path) -> None:
    plan = Plan(model="nets:Tied")
    network.save(made(folder, plan), folder / "saved")
    loaded = network.load(folder / "saved", ref.resolve(plan.model, folder)).module.state_dict()
    assert torch.equal(loaded["one.weight"], loaded["two.weight"])


def test_widths_of_the_plan_are_applied(folder: Path) -> None:
    widths = {
        "conv": Width(inputs=3, outputs=6),
        "norm": Width(inputs=6, outputs=6),
        "deep": Width(inputs=6, outputs=6, groups=6),
        "head": Width(inputs=6, outputs=5),
    }
    module = made(folder, PLAN.model_copy(update={"widths": widths})).module
    shapes = {name: list(value.shape) for name, value in module.state_dict().items()}
    assert shapes == {
        "conv.weight": [6, 3, 3, 3],
        "conv.bias": [6],
        "norm.weight": [6],
        "norm.bias": [6],
        "norm.running_mean": [6],
        "norm.running_var": [6],
        "norm.num_batches_tracked": [],
        "deep.weight": [6, 1, 3, 3],
        "head.weight": [5, 6],
        "head.bias": [5],
    }
    assert isinstance(module.get_submodule("deep"), nn.Conv2d)
    with torch.no_grad():
        assert module.eval()(torch.zeros(2, 3, 8, 8)).shape == (2, 5)


def test_width_of_an_unknown_layer_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match='no layer "stem"'):
        made(folder, PLAN.model_copy(update={"widths": {"stem": Width(inputs=3, outputs=4)}}))


def test_wrong_shape_names_the_first_mismatching_key_and_both_shapes(folder: Path) -> None:
    module = made(folder).module
    weights = module.state_dict() | {"norm.bias": torch.zeros(9), "head.weight": torch.zeros(6, 8)}
    with pytest.raises(ModelError) as raised:
        network.fill(module, weights, "w.pt")
    assert raised.value.message == 'w.pt: "norm.bias" is [9] in the file and [8] in the model'


def test_key_that_the_model_lacks_is_named(folder: Path) -> None:
    module = made(folder).module
    with pytest.raises(ModelError, match=r'"fc\.weight" \[10, 64\] is not in the model'):
        network.fill(module, module.state_dict() | {"fc.weight": torch.zeros(10, 64)}, "w.pt")


def test_missing_key_is_named_with_its_shape(folder: Path) -> None:
    module = made(folder).module
    weights = {name: value for name, value in module.state_dict().items() if name != "head.weight"}
    with pytest.raises(ModelError, match=r'"head\.weight" \[5, 8\] is in the model but not in the file'):
        network.fill(module, weights, "w.pt")


def test_weights_without_batch_counters_load(folder: Path) -> None:
    module = made(folder).module
    network.fill(module, {k: v for k, v in module.state_dict().items() if "num_batches" not in k}, "w.pt")


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_training_scripts_save_is_read(tmp_path: Path, key: str | None, prefix: str) -> None:
    weights = {"conv.weight": torch.ones(2), "module_list.bias": torch.zeros(1)}
    named: dict[str, Tensor] = {prefix + name: value for name, value in weights.items()}
    torch.save({key: named, "epoch": 3} if key else named, tmp_path / "w.pth")
    read = network.read_weights(tmp_path / "w.pth")
    assert {name: value.tolist() for name, value in read.items()} == {k: v.tolist() for k, v in weights.items()}


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file({"a": torch.arange(3)}, tmp_path / "w.safetensors")
    assert network.read_weights(tmp_path / "w.safetensors")["a"].tolist() == [0, 1, 2]


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_pickled_code_is_refused_not_executed(tmp_path: Path, writer: str) -> None:
    effect = tmp_path / "executed"
    file = tmp_path / "w.pth"
    content = {"conv.weight": torch.zeros(1), "x": Malicious(effect)}
    if writer == "pickle":
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, file)
    with pytest.raises(ModelError, match=r"w\.pth is not a weights file that can be read safely"):
        network.read_weights(file)
    assert not effect.exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_garbage_is_a_model_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x07not weights")
    with pytest.raises(ModelError, match="is not a weights file that can be read safely"):
        network.read_weights(tmp_path / name)


def test_missing_file_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights file"):
        network.read_weights(tmp_path / "w.pth")


def test_a_whole_list_is_no_state_dict(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "w.pth")
    with pytest.raises(ModelError, match="holds no state dict"):
        network.read_weights(tmp_path / "w.pth")


def test_callable_that_gives_no_module(folder: Path) -> None:
    with pytest.raises(ModelError, match='"nets:not_a_module" gave a int'):
        made(folder, Plan(model="nets:not_a_module"))


def test_unknown_argument_is_a_model_error(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot be called: .*depth"):
        made(folder, Plan(model="nets:Net", args={"depth": 3}))


def test_overlapping_weights_are_saved(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    module[1].weight = nn.Parameter(module[0].weight[1:3])
    network.save(network.Network(module, PLAN), tmp_path / "net")
    assert torch.equal(load_file(tmp_path / "net" / network.WEIGHTS)["1.weight"], module[1].weight)


def test_removed_blocks_of_the_plan_pass_their_input_on(folder: Path) -> None:
    spec = "edgekd.models:resnet20"
    plan = Plan(model=spec, removed=("layer1.1", "layer3.2"))
    code = ref.resolve(spec, folder)
    before = network.build(plan, code)
    assert isinstance(before.module.get_submodule("layer3.2"), nn.Identity)
    network.save(before, folder / "cut")
    after = network.load(folder / "cut", code)
    assert after.plan.removed == plan.removed
    assert not any(name.startswith(("layer1.1.", "layer3.2.")) for name in load_file(folder / "cut" / network.WEIGHTS))
    image = torch.ones(1, 3, 32, 32)
    assert torch.equal(before.module.eval()(image), after.module.eval()(image))


def test_a_removed_block_that_the_code_does_not_have_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match='plan: no layer "layer9"'):
        made(folder, PLAN.model_copy(update={"removed": ("layer9",)}))


def test_a_plan_without_channels_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Width(inputs=0, outputs=4)


def test_modules_that_ask_for_their_version_load(folder: Path) -> None:
    """MNASNet raises on weights without one, and safetensors keeps none."""
    spec = "torchvision.models:mnasnet0_5"
    code = ref.resolve(spec, folder)
    network.save(network.build(Plan(model=spec), code), folder / "mnas")
    assert network.load(folder / "mnas", code).plan.model == spec


def test_frozen_parameters_stay_frozen_in_another_width(folder: Path) -> None:
    (folder / "frozen.py").write_text(
        "from nets import Net\n\ndef frozen():\n    net = Net(bias=True)\n"
        "    net.requires_grad_(False)\n    return net\n"
    )
    widths = {
        "conv": Width(inputs=3, outputs=6),
        "norm": Width(inputs=6, outputs=6),
        "deep": Width(inputs=6, outputs=6, groups=6),
        "head": Width(inputs=6, outputs=4),
    }
    module = made(folder, Plan(model="frozen:frozen", widths=widths)).module
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.slow
def test_damaged_weights_are_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    """Bits flipped, parts lost or put in, in each of the formats; seed 0 to 999."""
    program = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), program)
    tensors = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2)).state_dict()
    files = [program.getvalue(), safetensors_bytes(tensors)]
    for value, is_zip in ((tensors, True), (tensors, False), (nn.Linear(2, 2), True)):
        stream = io.BytesIO()
        torch.save(value, stream, _use_new_zipfile_serialization=is_zip)
        files.append(stream.getvalue())
    answers = {"read": 0, "refused": 0}
    for seed in range(1000):
        draw = random.Random(seed)
        content = bytearray(draw.choice(files))
        for _ in range(draw.choice((1, 3, 20))):
            at = draw.randrange(len(content) or 1)
            match draw.randrange(4):
                case 0 if content:
                    content[at] ^= 1 << draw.randrange(8)
                case 1:
                    del content[at : at + draw.randrange(1, 64)]
                case 2:
                    content[at:at] = draw.randbytes(8)
                case _:
                    del content[max(1, len(content) - draw.randrange(1, 400)) :]
        file = tmp_path / draw.choice(("w.pt", "w.safetensors"))
        file.write_bytes(bytes(content))
        try:
            network.read_weights(file)
            answers["read"] += 1
        except ModelError as error:
            assert error.message and error.hint, seed
            answers["refused"] += 1
    assert answers["read"] > 10
    assert answers["read"] + answers["refused"] == 1000
