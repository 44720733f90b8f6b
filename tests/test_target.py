"""A target is a file: the shipped ones hold together, others are read as strictly."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from edgekd import target as targets
from edgekd.errors import TargetError
from edgekd.target import Target

SHIPPED = ["arm64", "cpu", "cpu-vnni", "cuda"]

GOOD = """
description = "a board"
[device]
architecture = "aarch64"
[runtime]
providers = ["CPUExecutionProvider"]
[int8]
"""


def written(folder: Path, text: str, name: str = "board.toml") -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


def refused(file: str) -> TargetError:
    with pytest.raises(TargetError) as caught:
        targets.load(file)
    return caught.value


def test_the_shipped_targets_are_these_four() -> None:
    assert targets.names() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_target_parses_and_bears_its_files_name(name: str) -> None:
    target = targets.load(name)
    assert target.name == name
    assert (target.int8 is None) == (target.precision != "int8")
    assert 13 <= target.runtime.opset <= 18


def test_of_the_shipped_targets_only_any_x86_needs_seven_bit_weights() -> None:
    shipped = {name: targets.load(name).int8 for name in SHIPPED}
    assert {name: int8.reduce_range for name, int8 in shipped.items() if int8} == {
        "arm64": False,
        "cpu": True,
        "cpu-vnni": False,
    }


def test_no_shipped_target_multiplies_int8_by_int8() -> None:
    shipped = [targets.load(name).int8 for name in SHIPPED]
    assert {(int8.activations, int8.weights) for int8 in shipped if int8} == {("uint8", "int8")}


def test_an_unknown_name_suggests_the_nearest_and_lists_all() -> None:
    error = refused("arm46")
    assert error.message == 'unknown target "arm46"'
    assert error.hint == 'did you mean "arm64"? targets: arm64, cpu, cpu-vnni, cuda, or a file FILE.toml'


def test_a_name_never_reaches_out_of_the_folder() -> None:
    assert refused("../targets/cpu").message == 'unknown target "../targets/cpu"'


def test_a_file_target_is_named_after_its_file_and_takes_the_defaults(tmp_path: Path) -> None:
    target = targets.load(written(tmp_path, GOOD))
    assert isinstance(target, Target)
    assert (target.name, target.precision, target.runtime.threads, target.device.gpu) == ("board", "int8", 1, "none")
    assert target.int8 is not None
    assert (target.int8.activations, target.int8.weights, target.int8.per_channel) == ("uint8", "int8", True)


def test_a_file_that_is_not_there_lists_the_shipped_targets(tmp_path: Path) -> None:
    error = refused(str(tmp_path / "none.toml"))
    assert error.message.startswith("no target file ")
    assert "arm64, cpu, cpu-vnni, cuda" in error.hint


def test_an_unknown_key_names_its_table_and_the_nearest_key(tmp_path: Path) -> None:
    error = refused(written(tmp_path, GOOD.replace("providers", "thread = 2\nproviders")))
    assert error.message == 'board.toml: unknown key "thread" in [runtime]'
    assert error.hint.startswith('did you mean "threads"? known keys: providers, threads')


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('"aarch64"', '"riscv64"', 'device.architecture = "riscv64"'),
        ('["CPUExecutionProvider"]', "[]", "runtime.providers = []"),
        ('["CPUExecutionProvider"]', '"CPUExecutionProvider"', 'runtime.providers = "CPUExecutionProvider"'),
        ("[int8]", "[int8]\nper_channel = 1", "int8.per_channel = 1"),
    ],
)
def test_a_wrong_value_names_key_and_value(tmp_path: Path, old: str, new: str, key: str) -> None:
    assert refused(written(tmp_path, GOOD.replace(old, new))).message.startswith(f"board.toml: {key}: ")


@pytest.mark.parametrize(
    "text",
    [GOOD.replace("[int8]", ""), f'precision = "fp16"\n{GOOD}', f'precision = "float"\n{GOOD}'],
    ids=["int8 without its table", "fp16 with an int8 table", "float with an int8 table"],
)
def test_an_int8_table_and_int8_precision_belong_together(tmp_path: Path, text: str) -> None:
    message = refused(written(tmp_path, text)).message
    assert message.endswith('an [int8] table and precision = "int8" belong together')


@pytest.mark.parametrize(
    ("key", "least", "newest"), [("opset", 18, onnx.defs.onnx_opset_version()), ("ir", 8, onnx.IR_VERSION)]
)
def test_what_no_onnx_knows_is_refused_when_the_target_is_read(
    tmp_path: Path, key: str, least: int, newest: int
) -> None:
    """The newest that onnx knows is taken, the next is not; torch's exporter would fall back in silence."""
    error = refused(written(tmp_path, GOOD.replace("providers", f"{key} = {newest + 1}\nproviders")))
    assert (
        error.message == f"board.toml: runtime.{key}: {newest + 1} is newer than all that onnx {onnx.__version__} knows"
    )
    assert error.hint == f"from {least} to {newest}: the newest that the device's onnxruntime takes"
    runtime = targets.load(written(tmp_path, GOOD.replace("providers", f"{key} = {newest}\nproviders"))).runtime
    assert getattr(runtime, key) == newest


def test_a_file_that_is_no_toml_is_a_target_error(tmp_path: Path) -> None:
    assert refused(written(tmp_path, "[device")).message.endswith(" table declaration: [device")
