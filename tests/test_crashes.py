"""A build that dies at any change of the disk, and the next one: the same bytes, and nothing left over.

The process ends by `os._exit` before or after each rename, unlink, rmdir and mkdir, as a loss of power would end it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.run import Run
from edgekd.slot import sweep
from edgekd.stage import Metrics, stage
from edgekd.store import Store
from edgekd.verifying import verify

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
_CHANGES = ("rename", "replace", "unlink", "rmdir", "mkdir")
_DIED = 77


@stage(writes="data", version=1)
def prepare(out: Path, run: Run, count: int) -> Metrics:
    (out / "train").mkdir(parents=True)
    for number in range(count):
        (out / "train" / f"{number}.txt").write_text(str(number))
    (out / "classes.txt").write_text("a b")
    return {"count": count}


@stage(writes="weights.txt", version=1, resumes=True, trains=True)
def train(out: Path, run: Run, data: Path) -> Metrics:
    """Three epochs, each of which ends with a checkpoint, as the real training does."""
    checkpoint = out.parent / "checkpoint.txt"
    done = checkpoint.read_text().split() if checkpoint.exists() else []
    for epoch in range(len(done), 3):
        done.append(f"{epoch}:{len(list((data / 'train').iterdir()))}")
        beside = checkpoint.with_name("checkpoint.new")
        beside.write_text(" ".join(done))
        beside.replace(checkpoint)
    out.write_text("/".join(done))
    return {"epochs": len(done)}


@stage(writes="model", version=1)
def export(out: Path, run: Run, weights: Path) -> Metrics:
    out.mkdir()
    (out / "model.onnx").write_text(f"onnx of {weights.read_text()}")
    return {}


@pytest.fixture(autouse=True)
def _disk_that_keeps_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies takes nothing from the disk: flushing is only waited for here."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def build(folder: Path, fresh: tuple[str, ...] = ()) -> dict[str, str]:
    """Run all stages and both kinds of measurement; return the text of every file that they made."""
    store = Store(folder, fresh=frozenset(fresh))
    data = store.run(prepare, count=2)
    weights = store.run(train, data=data.path)
    model = store.run(export, weights=weights.path)
    table = store.measured("export-times", {"of": store.digest(model.path)}, lambda: '{"a": 1}')
    store.choose("export-ship", {"of": store.digest(model.path)}, lambda: "int8")
    made = [data.path, weights.path, model.path, table]
    files = [file for path in made for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return {str(file.relative_to(folder)): file.read_text() for file in files if file.is_file()}


def dying_at(point: int, work: Callable[[], Any]) -> bool:
    """Do some work in a child process that dies at a change of the disk; return whether it came so far."""
    child = os.fork()
    if child == 0:
        _arm(point)
        work()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, _DIED}
    return code == _DIED


def _arm(point: int) -> None:
    """Have the process end before (even points) or after (odd ones) one of its changes of the disk."""
    seen = 0

    def passing() -> None:
        nonlocal seen
        if seen == point:
            os._exit(_DIED)
        seen += 1

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any, **kwargs: Any) -> Any:
            passing()
            try:
                return function(*args, **kwargs)
            finally:
                passing()

        return change

    for name in _CHANGES:
        setattr(os, name, dying(getattr(os, name)))


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix in {".part", ".gone", ".damaged", ".new"})


@pytest.mark.parametrize("fresh", [(), ("prepare", "train", "export"), ("train", "export"), ("export",)])
def test_whatever_a_crash_leaves_the_next_build_makes_the_same_bytes(tmp_path: Path, fresh: tuple[str, ...]) -> None:
    """Plain builds die in an empty store, those with --from in a full one; a plain build follows each."""
    wanted = build(tmp_path / "whole")
    point = 0
    while True:
        store = tmp_path / str(point)
        if fresh:
            shutil.copytree(tmp_path / "whole", store)
        if not dying_at(point, lambda store=store: build(store, fresh)):
            break
        assert build(store) == wanted, point
        assert verify(store, Run()).damaged == (), point
        if not fresh:
            assert left_over(store) == [], point
        point += 1
    assert point > 20


def test_a_repeated_from_that_dies_and_is_repeated_makes_the_same_bytes(tmp_path: Path) -> None:
    wanted = build(tmp_path / "whole")
    point = 0
    while dying_at(point, lambda: build(tmp_path / "whole", ("train", "export"))):
        assert build(tmp_path / "whole", ("train", "export")) == wanted, point
        assert left_over(tmp_path / "whole") == [], point
        point += 1
    assert point > 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc which file was flushed")
def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files, then the folders that name them, then the rename, then the folder in which it happened."""
    done: list[str] = []
    rename = os.rename

    def renamed(source: Any, target: Any) -> None:
        done.append(f"-> {Path(target).name.partition('-')[0]}")
        rename(source, target)

    def flushed(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.partition("-")[0])

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "rename", renamed)
    store = Store(tmp_path / "store")
    done.clear()
    store.run(prepare, count=2)
    files = {"0.txt", "1.txt", "classes.txt"}
    before = done[: done.index("-> prepare")]
    assert files <= set(before)
    assert max(before.index(file) for file in ("0.txt", "1.txt")) < before.index("train")
    assert max(before.index(name) for name in ("train", "classes.txt")) < before.index("data")
    assert before.index("data") < before.index("record.json.new")
    assert done[done.index("-> prepare") + 1 :] == ["store"]


def test_a_training_that_died_before_its_rename_is_not_run_again(tmp_path: Path) -> None:
    """Its part holds a record that fits: only the rename is left to do."""
    lines: list[str] = []
    ran: list[str] = []

    @stage(writes="out", version=1, resumes=True)
    def slow(out: Path, run: Run) -> Metrics:
        ran.append("slow")
        out.write_text("done")
        return {}

    made = Store(tmp_path).run(slow).path
    made.parent.rename(made.parent.with_name(f"{made.parent.name}.part"))
    again = Store(tmp_path, Run(say=lines.append)).run(slow)
    assert (ran, again.path.read_text()) == (["slow"], "done")
    assert lines == ["slow runs: not finished before"]


def test_a_half_deleted_folder_never_counts_as_a_part(tmp_path: Path) -> None:
    """What is deleted is renamed first, and what a kill left of it goes when the store is opened."""
    build(tmp_path)
    (tmp_path / "abc.gone" / "train-0").mkdir(parents=True)
    Store(tmp_path)
    assert left_over(tmp_path) == []
    sweep(tmp_path / "nowhere")
