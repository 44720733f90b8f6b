"""Mistakes that users make: each is one message that names it, and one hint that mends it."""

from __future__ import annotations

import errno
import io
import pickle
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import edgekd
from edgekd import pipeline
from edgekd import recipe as recipes
from edgekd.errors import EdgekdError, ModelError, RecipeError
from edgekd.models.cifar_resnet import CifarResNet
from edgekd.models.network import read_weights
from edgekd.models.stage import initialise
from edgekd.prune.protecting import protected
from edgekd.recipe import Model
from edgekd.ref import resolve
from edgekd.run import Run

DATA: dict[str, Any] = {"source": "digits", "size": 32}
TEACHER = {"model": "edgekd.models:digits_teacher"}
STUDENT = {"model": "edgekd.models:digits_student"}


def refused(*overrides: str, **tables: Any) -> tuple[str, str]:
    """Return (message, hint) of a recipe with these tables."""
    with pytest.raises(RecipeError) as caught:
        recipes.parse({"name": "r", "data": DATA, "teacher": TEACHER, **tables}, "r.toml", Path(), overrides)
    return caught.value.message, caught.value.hint


def loaded(folder: Path, text: str) -> tuple[str, str]:
    """Return (message, hint) of a recipe file."""
    (folder / "edgekd.toml").write_text(text, encoding="utf-8")
    with pytest.raises(EdgekdError) as caught:
        recipes.load(folder)
    return caught.value.message.removeprefix(f"{folder}/"), caught.value.hint


def test_a_misspelt_table_is_named_and_not_the_one_that_is_missing(tmp_path: Path) -> None:
    message, hint = loaded(tmp_path, '[dat]\npath = "x"\n[teacher]\nmodel = "m:f"\n')
    assert message == 'edgekd.toml: unknown table "dat"'
    assert hint.startswith('did you mean "data"? tables: data, teacher, student')


def test_a_misspelt_table_inside_a_table_is_named_with_it() -> None:
    message, hint = refused(distill={"augmnt": {"crop": 2}}, student=STUDENT)
    assert message == 'r.toml: unknown table "augmnt" in [distill]'
    assert hint.startswith('did you mean "augment"?')


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("distill.epochs=-1", "epochs = -1: input should be greater than or equal to 1",
         "epochs takes a whole number of at least 1; by default epochs = 20"),
        ('distill.lr="1e-3"', 'lr = "1e-3": input should be a valid number',
         "numbers, true and false stand without quotes; lr takes a number above 0; by default lr = 0.05"),
        ("distill.lr=0", "lr = 0", "lr takes a number above 0; by default lr = 0.05"),
        ("distill.momentum=1", "momentum = 1", "momentum takes a number of at least 0 and below 1; by default"),
        ("distill.batch=1", "batch = 1", "batch takes a whole number from 2 to 1048576; by default batch = 128"),
        ("distill.schedule=step", 'schedule = "step"', 'schedule takes one of "cosine", "one-cycle"; by default'),
        ("distill.alpha=2", "alpha = 2", "alpha takes a number from 0 to 1; by default alpha = 0.1. Weight of the"),
        ("distill.augment.flip=1", "augment.flip = 1", "flip takes true or false, without quotes; by default"),
        ("distill.augment.rotate=200", "rotate = 200", "rotate takes a number from 0 to 180; by default rotate = 0.0."),
        ('quantize.precision="int4"', 'precision = "int4"',
         'precision takes one of "int8", "fp16", "float", or "auto"; by default precision = "auto".'),
        ("quantize.samples=0", "samples = 0", "samples takes a whole number of at least 1; by default samples = 512."),
        ("quantize.calibrator=mean", 'calibrator = "mean"', 'calibrator takes one of "auto", "min-max", "percentile"'),
        ("quantize.percentile=20", "percentile = 20", "percentile takes a number above 50 and of at most 100; by"),
        ("data.size=0", "data.size = 0", "size takes a whole number from 1 to 4096, or a list [ ] of 2, each a whole"),
        ("data.val_fraction=1.5", "val_fraction = 1.5", "val_fraction takes a number above 0 and below 1; by default"),
        ("data.labels=3", "data.labels = 3", 'labels takes a list [ ], each text in quotes; for example labels = ["'),
        ("data.skip_unreadable=yes", 'skip_unreadable = "yes"', "numbers, true and false stand without quotes; skip"),
        ("data.seed=-1", "data.seed = -1", "seed takes a whole number of at least 0 and below 4294967296"),
        ("prune.keep_macs=1.5", "keep_macs = 1.5", "keep_macs takes a number above 0 and of at most 1; for example"),
        ("prune.block=0", "prune.block = 0", 'block takes a whole number of at least 1, or "target"; by default'),
        ("prune.importance=l3", 'importance = "l3"', 'importance takes one of "l1", "l2", "fpgm", "lamp"'),
        ("budget.min_accuracy=97", "min_accuracy = 97", "min_accuracy takes a number from 0 to 1; for example min"),
        ("budget.max_size_kb=0", "max_size_kb = 0", "max_size_kb takes a number above 0; for example max_size"),
        ("bench.rounds=1", "bench.rounds = 1", "rounds takes a whole number of at least 5; by default rounds = 60."),
        ("compute.device=tpu", 'device = "tpu"', 'device takes one of "auto", "cpu", "cuda"; by default device'),
        ("teacher.mean=[1, 2]", "teacher.mean", "mean takes a list [ ] of 3, each a number; for example mean = [123."),
        ("teacher.model=3", "teacher.model = 3", 'model takes text in quotes; for example model = "torchvision.'),
        ("distill=3", "distill = 3: must be a table", "known keys: epochs, budget, batch, lr"),
    ],
)  # fmt: skip
def test_an_impossible_value_says_range_default_and_example(override: str, message: str, hint: str) -> None:
    said, help_ = refused(override, student=STUDENT, distill={})
    assert message in said
    assert help_.startswith(hint)


def test_a_windows_path_in_double_quotes_is_quoted_with_what_to_write(tmp_path: Path) -> None:
    message, hint = loaded(tmp_path, '[data]\npath = "C:\\Users\\me"\n')
    assert message == 'edgekd.toml: line 2: invalid hex value: path = "C:\\Users\\me"'
    assert "write paths as 'C:\\data' in single quotes, or as \"C:/data\"" in hint


def test_a_path_whose_backslash_became_a_line_break_is_refused(tmp_path: Path) -> None:
    message, hint = loaded(tmp_path, '[data]\npath = "C:\\new"\n[teacher]\nmodel = "m:f"\n')
    assert message == 'edgekd.toml: data.path: "C:\\new" holds a control character'
    assert "write paths as 'C:\\new' in single quotes, or as \"C:/new\"" in hint


def test_a_size_below_the_default_shift_says_what_to_set() -> None:
    message, hint = refused(data={"source": "digits", "size": 1})
    assert message == (
        "r.toml: data.size = [1, 1] is too small: by default teacher.train.augment.crop shifts images by 4 pixels"
    )
    assert hint == "set data.size above 4, such as 32; or teacher.train.augment.crop = 0"


def test_a_shift_that_is_set_too_large_is_named_with_its_table() -> None:
    message, hint = refused(student=STUDENT, distill={"augment": {"crop": 40}})
    assert message == "r.toml: distill.augment.crop = 40 leaves nothing of images of 32×32 pixels"
    assert hint == "it is in pixels: set it below 32, or data.size above 40"


def test_a_teacher_with_weights_is_not_augmented_at_any_size() -> None:
    teacher = {**TEACHER, "weights": "w.pt", "mean": [1.0, 1.0, 1.0], "std": [1.0, 1.0, 1.0]}
    values = {"name": "r", "data": {"source": "digits", "size": 4}, "teacher": teacher}
    assert recipes.parse(values, "r.toml", Path()).data.shape == (4, 4)


def test_distillation_without_a_student_says_what_to_add() -> None:
    message, hint = refused(distill={})
    assert message == "r.toml: [distill] needs a [student]"
    assert hint.startswith('add [student] with model = "module:callable"')


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("distill.epoch=3", '--set: unknown key "epoch" in [distill]'),
        ("distill.epochs=0", "--set: distill.epochs = 0: input should be greater than or equal to 1"),
        ("distill={ epoch = 3 }", '--set: unknown key "epoch" in [distill]'),
        ("distill.budget=5m", "r.toml with --set: distill: epochs and budget are both given"),
    ],
)
def test_a_mistake_in_an_override_is_not_looked_for_in_the_file(override: str, message: str) -> None:
    assert refused(override, student=STUDENT, distill={"epochs": 2})[0] == message


def test_a_mistake_in_the_file_is_not_blamed_on_an_override() -> None:
    assert refused("data.seed=3", student=STUDENT, distill={"epoch": 2})[0].startswith("r.toml: unknown key")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", 'name = "parts"\n'])
def test_an_empty_recipe_is_shown_the_smallest_one(tmp_path: Path, text: str) -> None:
    """The hint's two lines are a recipe that loads."""
    message, hint = loaded(tmp_path, text)
    assert message == "edgekd.toml: the recipe is empty"
    lines = hint.removeprefix("the smallest recipe is two lines: ").partition(", which")[0].split(" and ")
    assert len(lines) == 2
    recipe = recipes.parse({"name": "r", **tomllib.loads("\n".join(lines))}, "r.toml", Path())
    assert (recipe.data.path, recipe.teacher.model) == ("images", "mynet:make")


IMAGES = """
import numpy as np
from edgekd import Dataset, Split

def load():
    pixels = np.random.default_rng(0).integers(0, 256, (72, 16, 16, 3), np.uint8)
    labels = np.arange(36, dtype=np.int64) % 3
    return Dataset(Split(pixels[:36], labels), Split(pixels[36:], labels), ("bolt", "nut", "washer"))
"""
NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=3, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        y = self.conv(x).mean((2, 3))
        return self.fc(y)

def make(classes=3):
    return Net(classes)
"""
RECIPE = """
name = "r"
data = { source = "images:load", size = 16 }
teacher = { model = "nets:make" }
student = { model = "nets:make" }
distill = {}
"""


def written(folder: Path, nets: str = NETS, recipe: str = RECIPE, images: str = IMAGES) -> Path:
    (folder / "nets.py").write_text(nets, encoding="utf-8")
    (folder / "images.py").write_text(images, encoding="utf-8")
    (folder / "edgekd.toml").write_text(recipe, encoding="utf-8")
    return folder


def stopped(folder: Path, *overrides: str) -> tuple[str, str]:
    """Build what cannot be built; return (message, hint) and check that nothing was trained before."""
    lines: list[str] = []
    with pytest.raises(EdgekdError) as caught:
        edgekd.build(recipes.load(folder, overrides), targets=["arm64"], out=folder / "dist", run=Run(say=lines.append))
    assert not [line for line in lines if line.startswith(("teacher runs", "distill runs", "warning"))]
    assert "\x1b" not in caught.value.message + caught.value.hint
    return caught.value.message, caught.value.hint


def changed(old: str, new: str) -> str:
    assert old in NETS
    return NETS.replace(old, new)


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
        ("half", "it is a torch file that was cut short, of 4000 bytes", "download the file itself again"),
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


def test_more_calibration_images_than_train_has_are_refused_only_where_they_are_asked_for(tmp_path: Path) -> None:
    """The data are prepared once: what is asked for is judged whether or not that is already done."""
    folder = written(tmp_path, recipe=RECIPE + "quantize = {}\n")
    message, hint = stopped(folder, "quantize.samples=512")
    assert message == "quantize.samples = 512, but train has only 32 images"
    assert hint == "set quantize.samples to at most 32, leave it out to take all that there are, or add images"
    lines: list[str] = []
    pipeline.plan(recipes.load(folder), ["arm64"], run=Run(say=lines.append))
    assert lines[:2] == ["prepare: unchanged, from the store", "initialise would run: not run before"]
    (calibration,) = (folder / ".edgekd").glob("prepare-*/data/calibration/labels.npy")
    assert len(np.load(calibration)) == 32


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


@pytest.mark.parametrize(
    ("file", "message", "hint"),
    [
        ("dist", "cannot write to {out}: {out} is a file", "choose another folder with --out"),
        ("dist/r-arm64", "cannot write {out}/r-arm64: it is a file", "move it away, or choose another folder"),
    ],
)
def test_a_file_where_the_bundle_goes_is_found_before_any_work(
    tmp_path: Path, file: str, message: str, hint: str
) -> None:
    folder = written(tmp_path)
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text("")
    said, help_ = stopped(folder)
    assert said == message.format(out=folder / "dist")
    assert help_.startswith(hint)
    assert not list((folder / ".edgekd").glob("prepare-*"))


def test_a_folder_that_may_not_be_written_is_found_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a user without rights: root may write anywhere, so the system's answer is given in its place."""

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    folder = written(tmp_path)
    (folder / "dist").mkdir()
    monkeypatch.setattr(Path, "write_bytes", denied)
    message, hint = stopped(folder)
    assert (message, hint) == (
        f"cannot write to {folder / 'dist'}: Permission denied",
        "choose another folder with --out",
    )
    assert not list((folder / ".edgekd").glob("prepare-*"))


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("layer1.0.conv3", "the nearest: layer1.0.conv2, layer1.0.conv1, "),
        ("linaer", "the nearest: linear"),
        ("conv2", "the nearest: layer1.0.conv2, layer2.0.conv2, layer3.0.conv2, conv1"),
        ("zzzzzz", "such as: conv1, layer1, layer2, layer3, linear"),
    ],
)
def test_a_misspelt_layer_to_protect_lists_the_nearest(path: str, hint: str) -> None:
    """Only paths that `protect` takes are listed."""
    module = CifarResNet(1, 4, widths=(4, 8, 16))
    with pytest.raises(ModelError, match=f'prune.protect: no layer "{path}"') as caught:
        protected(module, (path,))
    assert caught.value.hint.startswith(hint)
    for name in caught.value.hint.partition(": ")[2].split(", "):
        assert protected(module, (name,))


@pytest.mark.parametrize(
    ("stage", "meant"),
    [
        ("train", "did you mean teacher or distill? stages: prepare, "),
        ("training", "did you mean teacher or distill? "),
        ("distil", 'did you mean "distill"? '),
    ],
)
def test_a_stage_by_another_word_lists_what_it_may_mean(tmp_path: Path, stage: str, meant: str) -> None:
    with pytest.raises(EdgekdError) as caught:
        pipeline.plan(recipes.load(written(tmp_path)), ["arm64"], from_stage=stage)
    assert caught.value.message == f'--from: unknown stage "{stage}"'
    assert caught.value.hint.startswith(meant)
