"""A digest follows the bytes; the cache only saves reading them again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from edgekd.hashes import HashCache
from edgekd.keys import digest_of


def digest(path: Path) -> str:
    return HashCache(path.parent / "no-cache.json").digest(path)


def age(file: Path, seconds: int = 10) -> None:
    """Make a file old enough for its hash to be remembered."""
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns - seconds * 1_000_000_000))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    (made / "cat").mkdir(parents=True)
    (made / "cat" / "1.png").write_bytes(b"one")
    (made / "2.png").write_bytes(b"two")
    return made


def test_the_digest_of_a_file_is_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"bytes")
    assert digest(tmp_path / "f") == hashlib.sha256(b"bytes").hexdigest()


def test_a_folder_is_equal_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    before = digest(folder)
    assert digest(folder.rename(tmp_path / "elsewhere")) == before


@pytest.mark.parametrize("change", ["rename", "edit", "add", "remove", "swap"])
def test_a_folder_changes_with_names_and_contents(folder: Path, change: str) -> None:
    before = digest(folder)
    one, two = folder / "cat" / "1.png", folder / "2.png"
    if change == "rename":
        two.rename(folder / "3.png")
    elif change == "edit":
        two.write_bytes(b"TWO")
    elif change == "add":
        (folder / "3.png").touch()
    elif change == "remove":
        two.unlink()
    else:
        one.write_bytes(b"two")
        two.write_bytes(b"one")
    assert digest(folder) != before


@pytest.mark.parametrize("name", [".DS_Store", ".cache/thumbnail.png"])
def test_hidden_files_do_not_count(folder: Path, name: str) -> None:
    before = digest(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"hidden")
    assert digest(folder) == before


def test_a_hidden_folder_above_does_not_hide_its_files(tmp_path: Path) -> None:
    whole = tmp_path / ".edgekd" / "data"
    whole.mkdir(parents=True)
    empty = digest(whole)
    (whole / "f").touch()
    assert digest(whole) != empty


def test_an_old_file_whose_stat_stays_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"old")
    age(file)
    cache = HashCache(tmp_path / "hashes.json")
    before = cache.digest(file)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert cache.digest(file) == before


def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    """As git does: setting the time back changes when the inode changed."""
    file = tmp_path / "f"
    file.write_bytes(b"old")
    age(file)
    stat = file.stat()
    cache = HashCache(tmp_path / "hashes.json")
    before = cache.digest(file)
    file.write_bytes(b"new")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cache.digest(file) != before


def test_a_file_of_this_moment_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"old")
    stat = file.stat()
    cache = HashCache(tmp_path / "hashes.json")
    before = cache.digest(file)
    file.write_bytes(b"new")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert cache.digest(file) != before


def test_what_was_learnt_outlives_the_process(tmp_path: Path) -> None:
    file, kept = tmp_path / "f", tmp_path / "hashes.json"
    file.write_bytes(b"bytes")
    age(file)
    cache = HashCache(kept)
    cache.digest(file)
    cache.save()
    files = json.loads(kept.read_text())["files"]
    files[str(file)][-1] = "remembered"
    kept.write_text(json.dumps({"files": files, "sha256": digest_of(files)}))
    assert HashCache(kept).digest(file) == "remembered"


def test_nothing_learnt_writes_nothing(tmp_path: Path) -> None:
    cache = HashCache(tmp_path / "hashes.json")
    cache.save()
    assert list(tmp_path.iterdir()) == []


def test_a_save_leaves_one_whole_file(tmp_path: Path, folder: Path) -> None:
    age(folder / "2.png")
    cache = HashCache(tmp_path / "hashes.json")
    cache.digest(folder)
    cache.save()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hashes.json", "images"]
    assert list(json.loads((tmp_path / "hashes.json").read_text())["files"]) == [str(folder / "2.png")]


def test_a_cache_with_a_flipped_digit_is_as_good_as_none(tmp_path: Path) -> None:
    file, kept = tmp_path / "f", tmp_path / "hashes.json"
    file.write_bytes(b"bytes")
    age(file)
    cache = HashCache(kept)
    right = cache.digest(file)
    cache.save()
    kept.write_text(kept.read_text().replace(right, f"{int(right[0], 16) ^ 1:x}{right[1:]}"))
    assert HashCache(kept).digest(file) == right


@pytest.mark.parametrize("content", ['{"half', "[]", "{}", '{"files": {}}', "\ud800", "[" * 100_000])
def test_a_broken_cache_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "hashes.json").write_text(content, encoding="utf-8", errors="surrogatepass")
    (tmp_path / "f").write_bytes(b"bytes")
    assert HashCache(tmp_path / "hashes.json").digest(tmp_path / "f") == hashlib.sha256(b"bytes").hexdigest()


def test_a_linked_folder_changes_with_what_it_leads_to(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "train").symlink_to(folder)
    before = digest(data)
    (folder / "new.txt").write_text("new", encoding="utf-8")
    assert digest(data) != before


def test_a_link_that_leads_back_up_ends(folder: Path) -> None:
    (folder / "again").symlink_to(folder)
    assert len(digest(folder)) == 64


def test_names_that_are_not_utf8_count_by_their_bytes(folder: Path) -> None:
    seen = {digest(folder)}
    for name in (b"\xff.png", b"\xfe.png", "\u00ff.png".encode()):
        file = folder / os.fsdecode(name)
        file.touch()
        seen.add(digest(folder))
        file.unlink()
    assert len(seen) == 4
