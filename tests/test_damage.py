"""What rots in a store is noticed when it is used: the next build makes the same bytes, and says so in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd import choices
from edgekd.errors import EdgekdError
from edgekd.run import Run
from edgekd.stage import Metrics, stage
from edgekd.store import Store
from edgekd.verifying import verify


@stage(writes="data", version=1)
def prepare(out: Path, run: Run, count: int) -> Metrics:
    out.mkdir()
    for number in range(count):
        (out / f"{number}.bin").write_bytes(bytes(range(100)))
    return {"count": count, "classes": ["a", "b"], "accuracy": 0.5}


@stage(writes="model.onnx", version=1)
def export(out: Path, run: Run, data: Path) -> Metrics:
    out.write_bytes(b"".join(file.read_bytes() for file in sorted(data.iterdir())))
    return {}


def build(folder: Path) -> tuple[list[str], dict[str, bytes]]:
    """Return what was said, and the bytes of all that a build leaves for the next stages."""
    lines: list[str] = []
    store = Store(folder, Run(say=lines.append))
    data = store.run(prepare, count=2)
    model = store.run(export, data=data.path)
    times = store.measured("export-times", {"of": store.digest(model.path)}, lambda: '{"milliseconds": 1.5}')
    store.say(store.choose("export-ship", {"of": store.digest(model.path)}, lambda: "int8"))
    files = [*sorted(data.path.iterdir()), model.path, times]
    made = {str(file.relative_to(folder)): file.read_bytes() for file in files}
    return [line for line in lines if not line.endswith("unchanged, from the store")], made | {
        "metrics": json.dumps(data.metrics).encode()
    }


def flip(file: Path) -> None:
    """Turn one bit in the middle of a file; its size stays."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def replaced(pattern: str, old: str, new: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = only(folder, pattern)
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return damage


def written(pattern: str, content: str) -> Callable[[Path], None]:
    return lambda folder: only(folder, pattern).write_text(content) and None


PREPARE, EXPORT, KEY = "prepare-????????*", "export-????????????????????????????????", "its files are damaged"
TIMES = "export-times: its file is damaged"
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a bit of a file in a folder": (lambda folder: flip(only(folder, f"{PREPARE}/data/1.bin")), f"prepare: {KEY}"),
    "a file of a folder gone": (lambda folder: only(folder, f"{PREPARE}/data/0.bin").unlink(), f"prepare: {KEY}"),
    "a file too many": (lambda folder: (only(folder, f"{PREPARE}/data") / "2.bin").touch(), f"prepare: {KEY}"),
    "a file cut short": (lambda folder: os.truncate(only(folder, f"{PREPARE}/data/1.bin"), 50), f"prepare: {KEY}"),
    "a bit of a file": (lambda folder: flip(only(folder, f"{EXPORT}/model.onnx")), f"export: {KEY}"),
    "an empty file": (written(f"{EXPORT}/model.onnx", ""), f"export: {KEY}"),
    "the output gone": (lambda folder: only(folder, f"{EXPORT}/model.onnx").unlink(), f"export: {KEY}"),
    "no record": (lambda folder: only(folder, f"{EXPORT}/record.json").unlink(), "export: it has no record"),
    "an empty record": (written(f"{EXPORT}/record.json", ""), "export: its record is damaged"),
    "a record that is {}": (written(f"{EXPORT}/record.json", "{}"), "export: its record is damaged"),
    "a record that is a list": (written(f"{EXPORT}/record.json", "[]"), "export: its record is damaged"),
    "a record nested deep": (written(f"{EXPORT}/record.json", "[" * 100_000), "export: its record is damaged"),
    "a record that is no JSON": (written(f"{EXPORT}/record.json", "\x00\x01"), "export: its record is damaged"),
    "a record of other inputs": (
        replaced(f"{PREPARE}/record.json", '"count": 2\n', '"count": 3\n'),
        "prepare: its record is of other inputs",
    ),
    "a digit of a metric": (replaced(f"{PREPARE}/record.json", "0.5", "0.7"), f"prepare: {KEY}"),
    "a digit of the digest": (replaced(f"{EXPORT}/record.json", '"digest": "', '"digest": "0'), f"export: {KEY}"),
    "a letter of a choice": (replaced("choices.json", "int8", "int9"), "choices.json is damaged"),
    "empty choices": (written("choices.json", ""), "choices.json is damaged"),
    "choices that are a list": (written("choices.json", "[1]"), "choices.json is damaged"),
    "choices that are numbers": (written("choices.json", '{"a": 1}'), "choices.json is damaged"),
    "a digit of what was measured": (
        replaced("export-times-*.json", "1.5", "1.7"),
        "export-times: its file is damaged",
    ),
    "an empty measurement": (written("export-times-*.json", ""), TIMES),
    "no remembered hashes": (lambda folder: (folder / "hashes.json").unlink(missing_ok=True), ""),
    "empty remembered hashes": (lambda folder: (folder / "hashes.json").write_text(""), ""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_made_again_to_the_same_bytes_and_said_in_one_line(tmp_path: Path, damage: str) -> None:
    _, wanted = build(tmp_path)
    spoil, said = DAMAGE[damage]
    spoil(tmp_path)
    lines, made = build(tmp_path)
    assert made == wanted
    assert [line for line in lines if line != "int8"] == [line for line in lines if said and line.startswith(said)]
    assert len([line for line in lines if line != "int8"]) == bool(said)
    assert build(tmp_path) == (["int8"], wanted)


def test_a_record_from_before_there_were_digests_is_taken_as_it_is(tmp_path: Path) -> None:
    build(tmp_path)
    for file in tmp_path.glob("*/record.json"):
        record = json.loads(file.read_text())
        del record["digest"]
        file.write_text(json.dumps(record))
    (tmp_path / "choices.json").write_text(json.dumps(choices.read(tmp_path / "choices.json")))
    assert build(tmp_path)[0] == ["int8"]


def test_what_was_damaged_is_kept_aside(tmp_path: Path) -> None:
    build(tmp_path)
    flip(only(tmp_path, f"{EXPORT}/model.onnx"))
    spoilt = only(tmp_path, f"{EXPORT}/model.onnx").read_bytes()
    build(tmp_path)
    assert only(tmp_path, "export-*.damaged/model.onnx").read_bytes() == spoilt


def test_a_plan_says_that_something_is_damaged_and_touches_nothing(tmp_path: Path) -> None:
    build(tmp_path)
    flip(only(tmp_path, f"{PREPARE}/data/1.bin"))
    lines: list[str] = []
    assert Store(tmp_path, Run(say=lines.append), plan=True).run(prepare, count=2).measured is None
    assert lines == ["prepare: its files are damaged: would run again"]
    assert list(tmp_path.glob("*.damaged")) == []


def aged(folder: Path) -> None:
    """Let all files be older than what a cache of hashes takes for still changing."""
    for file in folder.rglob("*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))


def test_rot_that_leaves_size_and_times_is_found_by_reading_everything(tmp_path: Path, monkeypatch: Any) -> None:
    """The inode's own time of change cannot be set back here, so what is remembered is changed instead."""
    build(tmp_path)
    aged(tmp_path)
    build(tmp_path)  # remembers
    model = only(tmp_path, f"{EXPORT}/model.onnx")
    flip(model)
    aged(tmp_path)
    hashes = json.loads((tmp_path / "hashes.json").read_text())["files"]
    assert str(model) in hashes
    lines: list[str] = []
    found = verify(tmp_path, Run(say=lines.append))
    assert (found.whole, found.damaged) == (3, (model.parent.name,))
    assert lines == [
        f"{model.parent.name}: its files are damaged: set aside as {model.parent.name}.damaged, "
        "the next build makes it again"
    ]
    assert verify(tmp_path, Run()).damaged == ()
    assert build(tmp_path)[0] == ["export runs: not run before", "int8"]


@pytest.mark.parametrize("damage", [name for name, (_, said) in DAMAGE.items() if said])
def test_verify_finds_all_that_a_build_would(tmp_path: Path, damage: str) -> None:
    _, wanted = build(tmp_path)
    whole = verify(tmp_path, Run())
    assert whole.damaged == ()
    DAMAGE[damage][0](tmp_path)
    found = verify(tmp_path, Run())
    assert (len(found.damaged), found.whole) == (1, whole.whole - 1 - ("choice" in damage))
    assert build(tmp_path)[1] == wanted
    assert verify(tmp_path, Run()) == whole


def test_a_folder_that_is_no_store_is_not_called_whole(tmp_path: Path) -> None:
    with pytest.raises(EdgekdError, match="is not a store") as caught:
        verify(tmp_path, Run())
    assert caught.value.hint == "name the .edgekd folder that edgekd build made beside the recipe"
