"""A folder that is written anew is whole, or as it was before."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.beside import replaced


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def test_what_stood_there_is_gone_and_nothing_lies_beside(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with replaced(tmp_path / "out/net") as part:
            (part / content).write_text(content)
            assert not (tmp_path / "out/net" / content).exists()
    assert names(tmp_path) == ["out", "out/net", "out/net/new"]
    assert (tmp_path / "out/net").stat().st_mode & 0o777 == 0o755


def test_after_an_error_the_old_folder_stands_and_nothing_lies_beside(tmp_path: Path) -> None:
    with replaced(tmp_path / "net") as part:
        (part / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), replaced(tmp_path / "net") as part:
        (part / "new").write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["net", "net/old"]
