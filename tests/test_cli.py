"""Every mistake named in the README: one `error:` line, one `hint:` line, exit code 1, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgekd import cli
from edgekd import project as projects
from edgekd import target as targets
from edgekd.workload import arrays

Edgekd = Callable[..., tuple[int, str, str]]

RECIPE = """
name = "bad"
[data]
path = "images"
size = 16
val_fraction = 0.25
[teacher]
model = "toy_models:teacher"
args = { classes = 3 }
[teacher.train]
epochs = 1
batch = 4
[quantize]
samples = 8
"""


@pytest.fixture
def edgekd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Edgekd:
    """Return a function that runs the command line and gives exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgekd", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


@pytest.fixture
def recipe(copy_toy: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images of three classes, the toy models and a recipe; also the current folder."""
    folder = copy_toy()
    (folder / "edgekd.toml").write_text(RECIPE, encoding="utf-8")
    generator = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for label in ("bolt", "nut", "washer"):
            (folder / "images" / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / label / f"{number}.png")
    monkeypatch.chdir(folder)
    return folder


def says(result: tuple[int, str, str], error: str, hint: str) -> None:
    """Assert exit code 1, exactly one error line and one hint line, with these words in them."""
    code, _, err = result
    lines = err.strip().splitlines()
    assert code == 1, err
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"], err
    assert error in lines[0]
    assert hint in lines[1]


def wrote_nothing(folder: Path) -> None:
    assert not list(folder.glob("dist/*"))
    assert not list(folder.glob(".edgekd/*.part"))


def test_unknown_target_lists_names_and_suggests_the_nearest(edgekd: Edgekd, recipe: Path) -> None:
    says(edgekd("build", "--target", "arm46"), 'unknown target "arm46"', 'did you mean "arm64"? targets: arm64, cpu,')
    wrote_nothing(recipe)


def test_mistyped_recipe_key_suggests_the_nearest(edgekd: Edgekd, recipe: Path) -> None:
    says(edgekd("build", "--set", "teacher.wieghts=x"), 'unknown key "wieghts"', 'did you mean "weights"?')


def test_impossible_value_names_key_and_value(edgekd: Edgekd, recipe: Path) -> None:
    says(
        edgekd("build", "--set", "prune.keep_macs=1.5"),
        "prune.keep_macs = 1.5",
        "keep_macs takes a number above 0 and of at most 1",
    )


def test_broken_toml_is_no_stack_trace(edgekd: Edgekd, recipe: Path) -> None:
    (recipe / "edgekd.toml").write_text("[data\n", encoding="utf-8")
    says(edgekd("build"), "edgekd.toml: line 1: ", "key = value")


def test_reference_that_does_not_import(edgekd: Edgekd, recipe: Path) -> None:
    says(edgekd("build", "--set", "teacher.model=no_such_module:net"), "does not import", "installed")
    says(edgekd("build", "--set", "teacher.model=toy_models:techer"), 'no "techer"', 'did you mean "teacher"')


def test_weights_that_do_not_fit_name_the_key_and_both_shapes(edgekd: Edgekd, recipe: Path) -> None:
    torch.save({"body.0.0.weight": torch.zeros(8, 3, 3, 3)}, recipe / "w.pt")
    result = edgekd(
        "build", "--set", "teacher.weights=w.pt", "--set", "teacher.mean=[0,0,0]", "--set", "teacher.std=[1,1,1]"
    )
    says(result, '"body.0.0.weight" is [8, 3, 3, 3] in the file and [16, 3, 3, 3] in the model', "args")
    wrote_nothing(recipe)


class _Evil:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (_touch, ("executed",))


def _touch(name: str) -> None:
    Path(name).write_text("", encoding="utf-8")


def test_weights_are_never_executed(edgekd: Edgekd, recipe: Path) -> None:
    (recipe / "w.pt").write_bytes(pickle.dumps(_Evil()))
    result = edgekd(
        "build", "--set", "teacher.weights=w.pt", "--set", "teacher.mean=[0,0,0]", "--set", "teacher.std=[1,1,1]"
    )
    says(result, "w.pt is not a weights file that can be read safely", "state_dict")
    assert not (recipe / "executed").exists()


def test_missing_data_folder(edgekd: Edgekd, recipe: Path) -> None:
    says(edgekd("build", "--set", "data.path=nowhere"), "no data folder", "train/<class>/*")


def test_empty_data_folder(edgekd: Edgekd, recipe: Path) -> None:
    (recipe / "empty").mkdir()
    says(edgekd("build", "--set", "data.path=empty"), "no folder", "train/<class>/*")


def test_class_folder_without_image(edgekd: Edgekd, recipe: Path) -> None:
    for file in (recipe / "images/test/nut").iterdir():
        file.unlink()
    says(edgekd("build"), "has no image", "add images")


def test_unreadable_image_is_named(edgekd: Edgekd, recipe: Path) -> None:
    (recipe / "images/train/nut/3.png").write_bytes(b"no image")
    says(edgekd("build"), "3.png", "data.skip_unreadable = true")
    assert not list((recipe / ".edgekd").glob("prepare-*[0-9a-f]"))


def test_skip_unreadable_goes_on_and_counts(edgekd: Edgekd, recipe: Path) -> None:
    (recipe / "images/train/nut/3.png").write_bytes(b"no image")
    _, out, _ = edgekd("build", "--set", "data.skip_unreadable=true", "--set", "teacher.args.classes=4")
    assert "warning: 1 unreadable image left out: train/nut/3.png" in out


@pytest.mark.slow
def test_the_report_names_every_file_that_is_left_out_or_twice_there(edgekd: Edgekd, recipe: Path) -> None:
    train, test = recipe / "images/train/nut", recipe / "images/test/nut"
    for number in range(10, 22):
        (train / f"{number}.png").write_bytes(b"no image")
    (train / "notes.txt").touch()
    (test / "more").mkdir()
    (test / "more" / "0.png").write_bytes((train / "0.png").read_bytes())
    code, out, err = edgekd("build", "--set", "data.skip_unreadable=true", "--set", "teacher.min_teacher=0")
    assert code == 0, err
    (file,) = recipe.glob("dist/*/report.json")
    report = json.loads(file.read_text(encoding="utf-8"))
    assert report["files"] == {
        "unreadable": [f"train/nut/{number}.png" for number in range(10, 22)],
        "not_images": ["train/nut/notes.txt"],
        "in_no_class": [],
        "test_images_in_train": ["test/nut/more/0.png"],
    }
    assert report["data"]["unreadable"] == 12
    assert "train/nut/19.png and 2 more" in out
    assert str(recipe) not in file.read_text(encoding="utf-8")


def test_names_that_are_not_utf8_are_printed_as_escapes(recipe: Path) -> None:
    """In a process of its own: pytest's capture takes any text, stdout does not."""
    train = recipe / "images/train/nut"
    (train / "3.png").rename(train / os.fsdecode(b"\xff.png"))
    (train / os.fsdecode(b"\xfe.png")).write_bytes(b"no image")
    (train / os.fsdecode(b"\xfd.txt")).touch()
    command = [sys.executable, "-m", "edgekd.cli", "build"]
    ran = subprocess.run(command, cwd=recipe, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert [line.partition(":")[0] for line in ran.stderr.splitlines()] == ["error", "hint"]
    assert r"images/train/nut/\udcfe.png" in ran.stderr
    skipped = [*command, "--set", "data.skip_unreadable=true", "--set", "teacher.args.classes=4"]
    ran = subprocess.run(skipped, cwd=recipe, capture_output=True, text=True, check=False)
    assert r"warning: 1 unreadable image left out: train/nut/\udcfe.png" in ran.stdout
    assert r"1 file skipped, not an image by its name: train/nut/\udcfd.txt" in ran.stdout
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("where", ["recipe", "--store", "--out"])
def test_a_folder_whose_path_is_not_utf8_is_refused_before_any_work(edgekd: Edgekd, recipe: Path, where: str) -> None:
    """torch's exporter and onnxruntime fail in it, the first after the training."""
    odd = recipe / os.fsdecode(b"caf\xe9")
    shutil.copytree(recipe, odd)
    arguments = ["build", str(odd)] if where == "recipe" else ["build", where, str(odd / "new")]
    says(edgekd(*arguments), r"caf\udce9", "rename the folder")
    wrote_nothing(recipe)


def test_a_class_folder_of_two_lines_is_named_before_any_work(edgekd: Edgekd, recipe: Path) -> None:
    (recipe / "images/train/nut").rename(recipe / "images/train/nut\nand bolt")
    says(edgekd("build"), r"nut\nand bolt has a line break", "labels.txt has one class a line")
    wrote_nothing(recipe)


def test_class_counts_that_differ(edgekd: Edgekd, recipe: Path) -> None:
    says(edgekd("build", "--set", "teacher.args.classes=5"), "has 5 classes, the data has 3", "data.labels")
    wrote_nothing(recipe)


def test_fewer_calibration_images_than_asked(edgekd: Edgekd, recipe: Path) -> None:
    says(edgekd("build", "--set", "quantize.samples=100"), "train has only", "quantize.samples")


def test_test_images_in_train_are_counted(edgekd: Edgekd, recipe: Path) -> None:
    for number in (0, 1):
        pixels = (recipe / f"images/train/nut/{number}.png").read_bytes()
        (recipe / f"images/test/nut/{number}.png").write_bytes(pixels)
    _, out, _ = edgekd("build", "--set", "teacher.args.classes=4")
    assert "2 of 6 test images are also in train (same pixels): test/nut/0.png, test/nut/1.png" in out


def test_bench_for_another_machine_is_refused(edgekd: Edgekd, recipe: Path) -> None:
    other = {"x86_64": "arm64"}.get(cli_host(), "cpu")
    (recipe / "model.onnx").write_bytes(b"")
    says(edgekd("bench", "model.onnx", "--target", other), f"cannot bench for {other}", "on the device itself")


def cli_host() -> str:
    from edgekd import host

    return host.this().architecture


def test_bench_of_what_is_no_model(edgekd: Edgekd, recipe: Path) -> None:
    target = {"x86_64": "cpu"}.get(cli_host(), "arm64")
    (recipe / "model.onnx").write_bytes(b"no model")
    says(edgekd("bench", "model.onnx", "--target", target), "model.onnx is not a model", "ONNX")
    says(edgekd("bench", "gone.onnx", "--target", target), "no model", "bundle")


def test_output_folder_that_cannot_be_written(edgekd: Edgekd, recipe: Path) -> None:
    (recipe / "file").write_text("", encoding="utf-8")
    says(edgekd("build", "--out", "file/dist"), "cannot write", "--out")


def test_full_disk(edgekd: Edgekd, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "images.npy")

    monkeypatch.setattr(arrays, "save", full)
    says(edgekd("build"), "the disk is full: images.npy", "run the same command again")
    assert not list((recipe / ".edgekd").glob("prepare-*[0-9a-f]"))


def test_too_little_room_is_said_before_work(edgekd: Edgekd, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(projects.shutil, "disk_usage", lambda _: usage(10, 9, 1000))
    says(edgekd("build"), "GB free", "--store")
    wrote_nothing(recipe)


def test_teacher_far_below_what_it_should_score_names_the_suspects(edgekd: Edgekd, recipe: Path) -> None:
    sys.path.insert(0, str(recipe))
    import toy_models

    torch.manual_seed(0)
    torch.save(toy_models.teacher(3).state_dict(), recipe / "w.pt")
    arguments = ["--set", "teacher.weights=w.pt", "--set", "teacher.mean=[0,0,0]", "--set", "teacher.std=[1,1,1]"]
    result = edgekd("build", *arguments, "--set", "teacher.min_teacher=0.99")
    says(
        result,
        "less than 99.0 %, which teacher.min_teacher asks for",
        "the order of the classes (data.labels), mean and std, RGB against BGR",
    )
    wrote_nothing(recipe)


def test_unreachable_pruning_budget_is_found_before_the_training(edgekd: Edgekd, recipe: Path) -> None:
    result = edgekd("build", "--set", "prune.keep_macs=0.01", "--set", "teacher.train.epochs=100000")
    says(result, "keep at least", "prune.block")
    assert not list((recipe / ".edgekd").glob("teacher-*"))


def test_set_without_a_value(edgekd: Edgekd, recipe: Path) -> None:
    says(edgekd("build", "--set", "epochs"), "not of the form table.key=value", "distill.epochs=5")


def test_from_an_unknown_stage(edgekd: Edgekd, recipe: Path) -> None:
    says(edgekd("build", "--from", "distil"), 'unknown stage "distil"', 'did you mean "distill"?')


def test_wrong_usage_is_exit_code_2(edgekd: Edgekd) -> None:
    assert edgekd("build", "--no-such-option")[0] == 2
    assert edgekd("no-such-command")[0] == 2


def test_targets_says_of_each_whether_this_machine_is_one(edgekd: Edgekd) -> None:
    code, out, _ = edgekd("targets", "--json")
    here = {target["name"]: target["not_here"] for target in json.loads(out)}
    assert code == 0
    assert set(here) == {"arm64", "cpu", "cpu-vnni", "cuda"}
    assert (here["arm64"] is None) == (cli_host() == "aarch64")


def test_a_target_in_full_shows_its_file(edgekd: Edgekd) -> None:
    code, out, _ = edgekd("targets", "arm64")
    assert code == 0
    assert 'architecture = "aarch64"' in out


def test_without_a_recipe_the_digits_are_planned_and_said_so(
    edgekd: Edgekd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = edgekd("build", "--plan")
    assert code == 0
    assert out.splitlines()[0] == "no recipe given and no edgekd.toml here: building the built-in digits example"
    assert "prepare would run: not run before" in out
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_a_file(edgekd: Edgekd, recipe: Path) -> None:
    (recipe / "file").write_text("", encoding="utf-8")
    says(edgekd("build", "--store", "file"), "the store file is not a folder", "--store")


def test_a_provider_that_this_onnxruntime_lacks_is_said_before_any_work(edgekd: Edgekd, recipe: Path) -> None:
    text = (targets.folder() / f"{'cpu' if cli_host() == 'x86_64' else 'arm64'}.toml").read_text(encoding="utf-8")
    (recipe / "mine.toml").write_text(text.replace("CPUExecutionProvider", "NoSuchExecutionProvider"), encoding="utf-8")
    says(edgekd("build", "--target", "mine.toml"), "has no NoSuchExecutionProvider", "onnxruntime")
    wrote_nothing(recipe)


def test_two_targets_of_one_name(edgekd: Edgekd, recipe: Path) -> None:
    (recipe / "arm64.toml").write_text((targets.folder() / "arm64.toml").read_text(encoding="utf-8"), encoding="utf-8")
    says(edgekd("build", "--target", "arm64", "--target", "arm64.toml"), 'two targets are named "arm64"', "overwrite")


def test_a_message_of_many_lines_is_one_line(edgekd: Edgekd, recipe: Path) -> None:
    (recipe / "loud.py").write_text("raise ValueError('a\\nb\\nc')", encoding="utf-8")
    says(edgekd("build", "--set", "teacher.model=loud:net"), "ValueError: a b c", "code")


def test_a_data_function_that_raises_is_named(edgekd: Edgekd, recipe: Path) -> None:
    (recipe / "mydata.py").write_text("def load():\n    raise KeyError('gone')\n", encoding="utf-8")
    says(edgekd("build", "--set", "data.source=mydata:load"), "raised KeyError: 'gone'", "data function")


def test_a_dangling_link_in_the_data_is_no_stack_trace(edgekd: Edgekd, recipe: Path) -> None:
    (recipe / "images/train/nut/9.png").symlink_to("nowhere.png")
    says(edgekd("build", "--set", "teacher.args.classes=4"), "has 4 classes, the data has 3", "data.labels")


def test_json_is_alone_on_stdout(edgekd: Edgekd, recipe: Path) -> None:
    source = (recipe / "toy_models.py").read_text(encoding="utf-8")
    (recipe / "toy_models.py").write_text(f"print('hello from the user')\n{source}", encoding="utf-8")
    code, out, _ = edgekd("build", "--target", "arm64", "--json", "--set", "teacher.min_teacher=0.0")
    assert code == 0
    assert [bundle["report"]["target"] for bundle in json.loads(out)["bundles"]] == ["arm64"]


def test_a_plan_as_json_is_one_object(edgekd: Edgekd, recipe: Path) -> None:
    code, out, _ = edgekd("build", "--plan", "--json")
    assert code == 0
    assert json.loads(out)["plan"][0] == "prepare would run: not run before"


def printed(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in which `edgekd` is this edgekd."""
    script = f'edgekd() {{ "{sys.executable}" -m edgekd.cli "$@"; }}; {command}'
    given = {**os.environ, **environment}
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, env=given)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_stdout_that_is_full_is_one_error() -> None:
    done = printed("edgekd targets > /dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "error: cannot print: the disk that stdout goes to is full\n"
        "hint: free some room, or redirect the output elsewhere\n"
    )


def test_a_pipe_that_is_closed_early_is_no_error() -> None:
    done = printed("edgekd targets cpu | head -n 1")
    assert done.stderr == ""
    assert done.stdout.startswith("cpu ")
    # A reader that is gone before the first line; head may still be there when the last one is written.
    closed = printed("edgekd targets cpu | true; exit ${PIPESTATUS[0]}")
    assert (closed.returncode, closed.stderr) == (1, "")


def test_an_ascii_terminal_gets_every_line(tmp_path: Path) -> None:
    text = targets.file_of("cpu").read_text(encoding="utf-8").replace("any x86-64", "any ×86-64")
    (tmp_path / "board.toml").write_text(text, encoding="utf-8")
    done = printed(f"edgekd targets {tmp_path}/board.toml", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xd786-64" in done.stdout
