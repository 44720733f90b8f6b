"""A folder that is written anew is whole, or as it was before."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgekd.beside import replaced
from edgekd.errors import EdgekdError


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def test_what_stood_there_is_gone_and_nothing_lies_beside(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with replaced(tmp_path / "out/net") as part:
            (part / content).write_text(content)
            assert not (tmp_path / "out/net" / content).exists()
    assert names(tmp_path) == ["out", "out/net", "out/net/new"]
    assert (tmp_path / "out/net").stat().st_mode & 0o777 == 0o755


def test_an_interrupt_between_the_two_renames_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with replaced(tmp_path / "net") as part:
        (part / "old").write_text("old")
    renamed = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name.startswith(".net") and not self.name.endswith(".old"):
            raise KeyboardInterrupt
        return renamed(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), replaced(tmp_path / "net") as part:
        (part / "new").write_text("new")
    assert names(tmp_path) == ["net", "net/old"]


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "net").symlink_to("real")
    with replaced(tmp_path / "net") as part:
        (part / "new").write_text("new")
    assert (tmp_path / "net").is_symlink()
    assert [file.name for file in (tmp_path / "real").iterdir()] == ["new"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net", "real"]


def test_where_no_folder_can_be_made_it_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgekdError, match="cannot write") as caught, replaced(tmp_path / "file/net"):
        pytest.fail("nothing is to be filled")
    assert "--out" in caught.value.hint


def test_after_an_error_the_old_folder_stands_and_nothing_lies_beside(tmp_path: Path) -> None:
    with replaced(tmp_path / "net") as part:
        (part / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), replaced(tmp_path / "net") as part:
        (part / "new").write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["net", "net/old"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_what_a_process_that_died_left_beside_goes_with_the_next_write(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        with replaced(tmp_path / "net") as part:
            (part / "half").write_text("half")
            os._exit(0)
    os.waitpid(child, 0)
    (half,) = tmp_path.iterdir()
    assert half.name.startswith(f".net.{child}.")
    at_work = tmp_path / f".net.{os.getpid()}.abc"
    at_work.mkdir()
    with replaced(tmp_path / "net") as part:
        (part / "new").write_text("new")
    assert names(tmp_path) == sorted([at_work.name, "net", "net/new"]), "what a living process writes stays"
