"""Mistakes that show when a build starts: in the data, the target, the folders and the settings of training."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import edgekd
from edgekd import pipeline
from edgekd import recipe as recipes
from edgekd import target as targets
from edgekd.errors import EdgekdError, ModelError
from edgekd.models.cifar_resnet import CifarResNet
from edgekd.prune.protecting import protected
from edgekd.ref import resolve
from edgekd.run import Run
from tests.mistakes import IMAGES, RECIPE, stopped, written


def test_more_calibration_images_than_train_has_are_refused_only_where_they_are_asked_for(tmp_path: Path) -> None:
    """The data are prepared once: what is asked for is judged whether or not that is already done."""
    folder = written(tmp_path, recipe=RECIPE + "quantize = {}\n")
    message, hint = stopped(folder, "quantize.samples=512")
    assert message == "quantize.samples = 512, but train has only 32 images"
    assert hint == "set quantize.samples to at most 32, leave it out to take all that there are, or add images"
    lines: list[str] = []
    pipeline.plan(recipes.load(folder), ["arm64"], run=Run(say=lines.append))
    assert [line for line in lines if not line.startswith("warning")][:2] == [
        "prepare: unchanged, from the store",
        "initialise teacher would run: not run before",
    ]
    (calibration,) = (folder / ".edgekd").glob("prepare-*/data/calibration/labels.npy")
    assert len(np.load(calibration)) == 32


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


def test_an_opset_that_does_not_exist_is_refused_with_the_target(tmp_path: Path) -> None:
    text = (targets.folder() / "arm64.toml").read_text(encoding="utf-8").replace("opset = 18", "opset = 99")
    (tmp_path / "board.toml").write_text(text, encoding="utf-8")
    with pytest.raises(EdgekdError) as caught:
        pipeline.plan(recipes.load(written(tmp_path)), [str(tmp_path / "board.toml")])
    assert caught.value.message.startswith("board.toml: runtime.opset: 99 is newer than all that onnx ")
    assert caught.value.hint.startswith("from 18 to ")


PRUNED = """
name = "r"
data = { source = "images:load", size = 16 }
teacher = { model = "nets:make", weights = "w.safetensors", mean = [9, 9, 9], std = [64, 64, 64], min_teacher = 0 }
prune = { keep_macs = 0.9, block = 1 }
bench = { rounds = 5, warmup = 1 }
"""


def test_pruning_without_a_recovery_trains_nothing_and_the_report_says_so(tmp_path: Path) -> None:
    """What ships is the network as it was cut."""
    folder = written(tmp_path, recipe=PRUNED)
    module = resolve("nets:make", folder).load()()
    save_file(module.state_dict(), folder / "w.safetensors")
    lines: list[str] = []
    built = edgekd.build(folder, targets=["arm64"], out=folder / "dist", run=Run(say=lines.append)).bundles[0]
    stages = [line.split()[0] for line in lines if " runs:" in line]
    assert "prune" in stages
    assert not {"recover", "teacher", "distill"} & set(stages)
    assert not any(line.startswith("rehearsal") for line in lines)
    assert "what pruning left was not trained again: the recipe has no [prune.recovery]" in built.report.notes
    assert [row.stage for row in built.report.accuracy] == ["teacher", "pruned", "simplified", "float"]
    assert "recover" not in built.report.training


def test_a_teacher_that_was_trained_too_short_is_told_to_train_longer(tmp_path: Path) -> None:
    """The images are noise: one epoch cannot learn their classes."""
    folder = written(tmp_path, recipe='name = "r"\ndata = { source = "images:load", size = 16 }\n')
    given = ("teacher={ model = 'nets:make', train = { epochs = 1, batch = 16 } }",)
    with pytest.raises(ModelError) as caught:
        edgekd.build(recipes.load(folder, given), targets=["arm64"], out=folder / "dist")
    assert caught.value.message.startswith("the teacher is right on ")
    assert caught.value.message.endswith(
        " % of the validation images, less than 66.7 %, half way from guessing among 3 classes (33.3 %) to 100 %"
    )
    assert caught.value.hint == (
        "train it longer: raise teacher.train.epochs, now 1; or give it weights; or lower teacher.min_teacher"
    )


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    one = IMAGES.replace("% 3", "% 1").replace('("bolt", "nut", "washer")', '("bolt",)')
    assert stopped(written(tmp_path, images=one)) == (
        'the data has 1 class, "bolt"',
        "a classifier tells two or more apart",
    )


def pictures(folder: Path, split: str, classes: dict[str, int]) -> None:
    generator = np.random.default_rng(0)
    for label, count in classes.items():
        (folder / "images" / split / label).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / split / label / f"{number}.png")


FOLDER = RECIPE.replace('source = "images:load"', 'path = "images"')


def test_one_class_folder_is_refused_before_any_image_is_read(tmp_path: Path) -> None:
    for split in ("train", "test"):
        pictures(tmp_path, split, {"bolt": 1})
    message, _ = stopped(written(tmp_path, recipe=FOLDER))
    assert message == 'the data has 1 class, "bolt"'
    assert not (tmp_path / ".edgekd").exists()


def test_one_image_per_class_is_too_few(tmp_path: Path) -> None:
    for split in ("train", "test"):
        pictures(tmp_path, split, {"bolt": 1, "nut": 1, "washer": 1})
    message, hint = stopped(written(tmp_path, recipe=FOLDER + "quantize = {}\n"))
    assert re.fullmatch(
        r'too few images: class "(bolt|nut|washer)" has 1 in train, and none is left when 0\.1 of train are held out '
        "for validation",
        message,
    )
    assert hint == "add images, or name a data.val folder"


def test_test_images_in_val_are_pointed_at(tmp_path: Path) -> None:
    pictures(tmp_path, "train", {"bolt": 2, "nut": 2})
    pictures(tmp_path, "val", {"bolt": 1, "nut": 1})
    message, hint = stopped(written(tmp_path, recipe=FOLDER))
    assert message == f"no folder {tmp_path / 'images/test'}"
    assert hint.startswith("there is a val/: rename it to test/, where the shipped model is judged; or ")
    assert hint.endswith("data.val")


TEACHER_01 = (
    'teacher = { model = "nets:make", weights = "w.safetensors", mean = [0.485, 0.456, 0.406], '
    "std = [0.229, 0.224, 0.225] }"
)


def test_what_is_seldom_meant_is_one_line_each_before_any_training(tmp_path: Path) -> None:
    lines: list[str] = []
    folder = written(tmp_path, recipe=RECIPE.replace('teacher = { model = "nets:make" }', TEACHER_01))
    save_file(resolve("nets:make", folder).load()(classes=4).state_dict(), folder / "w.safetensors")
    with pytest.raises(ModelError, match=r"^teacher: "):
        edgekd.build(recipes.load(folder), targets=["arm64"], out=folder / "dist", run=Run(say=lines.append))
    assert [line for line in lines if line.startswith("warning: ")] == [
        "warning: teacher.mean = [0.485, 0.456, 0.406] and std = [0.229, 0.224, 0.225] look like units 0-1, and pixels "
        "are 0-255: for weights trained on 0-1 write mean = [123.675, 116.28, 103.53] and std = "
        "[58.395, 57.12, 57.375]",
        "warning: distill.batch = 128: train has 32 images, so an epoch is one step of 32",
    ]
