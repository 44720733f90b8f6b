"""Mistakes in the user's code and weights: their own file and line, or what the file is that holds no weights."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgekd.errors import ModelError
from edgekd.models.network import read_weights
from edgekd.models.stage import initialise
from edgekd.recipe import Model
from edgekd.ref import resolve
from edgekd.run import Run
from tests.mistakes import changed, stopped, written


@pytest.mark.parametrize(
    ("nets", "message", "hint"),
    [
        ("def make(:\n    pass\n", "SyntaxError: invalid syntax (nets.py, line 1: def make(:)", "mend it there"),
        ("import math\nx = y\n", "NameError: name 'y' is not defined (nets.py, line 2: x = y)", "mend it there"),
        ("import sys\n\nsys.exit(3)\n", "it calls sys.exit(3) (nets.py, line 3: sys.exit(3))", "mend it there"),
        (
            "import no_such_module_q\n",
            "No module named 'no_such_module_q' (nets.py, line 1: import no_such",
            "installed",
        ),
        ("x = 1\nx = '\0'\n", " source code string cannot contain null bytes", "mend it there"),
    ],
)
def test_a_module_that_does_not_import_is_shown_with_its_line(
    tmp_path: Path, nets: str, message: str, hint: str
) -> None:
    said, help_ = stopped(written(tmp_path, nets))
    assert said.startswith('"nets:make" does not import: ')
    assert message in said
    assert hint in help_


@pytest.mark.parametrize(
    ("nets", "message", "hint"),
    [
        (
            changed("    return Net(classes)", "    import sys\n    sys.exit('enough')"),
            "teacher: \"nets:make\" cannot be called: it calls sys.exit('enough') "
            "(nets.py, line 16: sys.exit('enough'))",
            "check its args in the recipe: it takes (classes=3)",
        ),
        (
            changed("return Net(classes)", "return Net(clases)"),
            "teacher: \"nets:make\" cannot be called: NameError: name 'clases' is not defined "
            "(nets.py, line 15: return Net(clases))",
            "check its args in the recipe: it takes (classes=3)",
        ),
        (
            changed("    return Net(classes)", "    Net(classes)"),
            'teacher: "nets:make" returned None',
            "forgot `return`? it must return a torch.nn.Module",
        ),
        (
            changed("self.fc = nn.Linear(8, classes)", "self.fc = nn.Linear(9, classes)"),
            'teacher: "nets:make" does not run on 16×16 RGB images: RuntimeError: mat1 and mat2 shapes cannot be '
            "multiplied (2x8 and 9x3) (nets.py, line 12: return self.fc(y))",
            "it is fed normalised RGB, float [N, 3, 16, 16]: check data.size and args",
        ),
        (
            changed("return self.fc(y)", "return self.fc(y), y"),
            'teacher: "nets:make" gives a tuple of 2',
            "its forward must return one tensor of logits [N, 3], and nothing beside it",
        ),
        (
            changed("return self.fc(y)", "self.fc(y)"),
            'teacher: "nets:make" gives None',
            "forgot `return`? its forward must return one tensor of logits [N, 3], and nothing beside it",
        ),
        (
            changed("return self.fc(y)", "return (self.fc(y), y) if self.training else self.fc(y)"),
            'teacher: "nets:make" gives a tuple of 2 in training mode',
            "switch its auxiliary heads off in args",
        ),
        (
            changed("return Net(classes)", "return Net(classes, channels=1)"),
            'teacher: "nets:make" does not run on 16×16 RGB images: RuntimeError: Given groups=1, weight of size '
            "[8, 1, 3, 3], expected input[2, 3, 16, 16] to have 1 channels, but got 3 channels instead "
            "(nets.py, line 11: y = self.conv(x).mean((2, 3)))",
            "edgekd feeds 3-channel RGB, and the model takes 1: wrap it in a module whose forward gives it "
            "x.mean(1, keepdim=True)",
        ),
    ],
)
def test_a_network_that_does_not_run_is_shown_with_the_users_own_line(
    tmp_path: Path, nets: str, message: str, hint: str
) -> None:
    assert stopped(written(tmp_path, nets)) == (message, hint)


def test_the_advice_for_a_grey_model_holds(tmp_path: Path) -> None:
    """A network of one channel, wrapped as the hint says, passes the check that sent the hint."""
    grey = changed("return Net(classes)", "return Grey(Net(classes, channels=1))") + (
        "\nclass Grey(nn.Module):\n    def __init__(self, net):\n        super().__init__()\n        self.net = net\n"
        "    def forward(self, x):\n        return self.net(x.mean(1, keepdim=True))\n"
    )
    folder = written(tmp_path, grey)
    code = resolve("nets:make", folder)
    metrics = initialise.function(tmp_path / "net", Run(), code, None, Model(model="nets:make"), 3, (16, 16), 0)
    assert metrics["parameters"] == 8 * 9 + 8 + 8 * 3 + 3


@pytest.mark.parametrize("which", ["teacher", "student"])
def test_another_number_of_classes_says_of_which_network_and_what_to_set(tmp_path: Path, which: str) -> None:
    message, hint = stopped(written(tmp_path), f"{which}.args.classes=5")
    assert message == f'{which}: "nets:make" has 5 classes, the data has 3'
    assert hint == "set args = { classes = 3 }, or check data.labels and the class folders"


@pytest.mark.parametrize(
    ("body", "message", "hint"),
    [
        (
            "    raise KeyError('gone')",
            "raised KeyError: 'gone' (images.py, line 2: raise KeyError('gone'))",
            "mend the",
        ),
        ("    import sys; sys.exit()", "raised it calls sys.exit() (images.py, line 2", "mend the data function"),
        ("    pass", "returned None", "forgot `return`? it must return an edgekd.Dataset"),
    ],
)
def test_a_data_function_that_fails_is_shown_with_its_line(tmp_path: Path, body: str, message: str, hint: str) -> None:
    said, help_ = stopped(written(tmp_path, images=f"def load():\n{body}\n"))
    assert message in said
    assert help_.startswith(hint)


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def torchscript() -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(nn.ReLU(), torch.zeros(1)), file)
    return file.getvalue()


NO_WEIGHTS: dict[str, Callable[[], bytes]] = {
    "page": lambda: b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>",
    "pointer": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "json": lambda: b'{"error": "Repository not found"}',
    "hdf5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(100),
    "empty": lambda: b"",
    "torchscript": torchscript,
    "module": lambda: saved(nn.Linear(2, 2)),
    "object": lambda: saved({"weight": torch.zeros(2), "config": Path("x")}),
    "pickle": lambda: pickle.dumps({"weight": [1.0]}, protocol=4),
    "half": lambda: saved({"weight": torch.zeros(2000)})[:4000],
}


@pytest.mark.parametrize(
    ("kind", "message", "hint"),
    [
        ("page", "w.pt is not a weights file: it is an HTML page", "a login or an error came instead: download the"),
        ("pointer", "w.pt is not a weights file: it is a git-lfs pointer, which stands for", "fetch the file: git lfs"),
        ("json", "w.pt is not a weights file: it is JSON text", "perhaps a server's error"),
        ("hdf5", "w.pt is not a weights file: it is an HDF5 file", "save the tensors alone"),
        ("empty", "w.pt is not a weights file: it is an empty file", "download the file itself again"),
        ("torchscript", "w.pt is not a weights file: it is a TorchScript program", "save the tensors alone"),
        ("module", "it holds pickled Python objects (torch.nn.modules.linear.Linear), which run code", "save the tens"),
        (
            "object",
            "it holds pickled Python objects (pathlib.PosixPath), which run code when",
            "save the tensors alone",
        ),
        ("pickle", "it is a pickle of Python objects, which run code when they are loaded", "save the tensors alone"),
        (
            "half",
            "it is a torch file that is damaged or was cut short, of 4000 bytes",
            "download the file itself again",
        ),
    ],
)
def test_what_is_not_weights_is_named_for_what_it_is(tmp_path: Path, kind: str, message: str, hint: str) -> None:
    (tmp_path / "w.pt").write_bytes(NO_WEIGHTS[kind]())
    with pytest.raises(ModelError) as caught:
        read_weights(tmp_path / "w.pt")
    said = caught.value.message + caught.value.hint
    assert message in caught.value.message
    assert caught.value.hint.startswith(hint)
    assert "\x1b" not in said
    assert "weights_only" not in said


def test_safetensors_under_another_name_are_read(tmp_path: Path) -> None:
    save_file({"a": torch.arange(3)}, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt")["a"].tolist() == [0, 1, 2]


def test_a_forward_that_decides_by_values_is_one_error_with_its_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing of torch's own dump of the graph reaches the terminal."""
    branching = changed(
        "        return self.fc(y)", "        if y.sum() > 0:\n            y = y + 1\n        return self.fc(y)"
    )
    message, hint = stopped(written(tmp_path, branching))
    assert message == (
        '"nets:make" cannot be exported: its forward decides by the values of a tensor '
        "(nets.py, line 12: if y.sum() > 0:)"
    )
    assert "no control flow on tensor values (torch.where chooses without)" in hint
    out, err = capfd.readouterr()
    assert "def forward" not in out + err
