"""Samples out of .npz files: looked at by their headers, drawn by row, written by shape."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekd.errors import DataError
from edgekd.workload import npz
from edgekd.workload.npz import Wanted

FLOAT = np.dtype(np.float32)
STATEFUL = {
    "x": Wanted(FLOAT, (None, 5), 0),
    "state": Wanted(FLOAT, (2, None, 3), 1),
    "rate": Wanted(np.dtype(np.int64), (), None),
}


def stateful(folder: Path, rates: list[int], rows: int = 4) -> None:
    """Files whose values say where they are from: file · 100 + row."""
    folder.mkdir()
    for number, rate in enumerate(rates):
        marks = number * 100 + np.arange(rows, dtype=np.float32)
        np.savez(
            folder / f"{number}.npz",
            x=np.repeat(marks[:, None], 5, 1),
            state=np.broadcast_to(marks[None, :, None], (2, rows, 3)),
            rate=np.int64(rate),
        )


def test_an_input_may_count_its_samples_along_any_axis(tmp_path: Path) -> None:
    stateful(tmp_path / "in", [8, 8, 8])
    found = npz.find(tmp_path / "in", STATEFUL)
    assert (found.rows, found.groups) == ((4, 4, 4), (0, 0, 0))
    npz.write(found, np.array([1, 3, 4, 10]), tmp_path / "out")
    assert np.load(tmp_path / "out/input-0.npy")[:, 0].tolist() == [1, 3, 100, 202]
    state = np.load(tmp_path / "out/input-1.npy")
    assert state.shape == (2, 4, 3)
    assert state[1, :, 2].tolist() == [1, 3, 100, 202]
    assert np.load(tmp_path / "out/input-2.npy") == 8
    assert json.loads((tmp_path / "out/inputs.json").read_text()) == ["x", "state", "rate"]
    assert json.loads((tmp_path / "out/groups.json").read_text()) == {"axes": [0, 1, None], "groups": [4]}


def test_samples_of_another_value_for_all_are_another_group(tmp_path: Path) -> None:
    stateful(tmp_path / "in", [8, 16, 8])
    found = npz.find(tmp_path / "in", STATEFUL)
    assert found.groups == (0, 1, 0)
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [0] * 4
    npz.write(found, np.arange(12), tmp_path / "out")
    assert np.load(tmp_path / "out/input-0.npy")[:, 0].tolist() == [0, 1, 2, 3, 200, 201, 202, 203]
    assert np.load(tmp_path / "out/input-0-1.npy")[:, 0].tolist() == [100, 101, 102, 103]
    assert [np.load(tmp_path / f"out/{name}") for name in ("input-2.npy", "input-2-1.npy")] == [8, 16]


def test_files_of_other_widths_are_groups_of_their_own(tmp_path: Path) -> None:
    wanted = {"x": Wanted(FLOAT, (None, 2, None), 0)}
    for number, width in enumerate([7, 5, 7]):
        np.savez(tmp_path / f"{number}.npz", x=np.full((1, 2, width), number, np.float32))
    found = npz.find(tmp_path, wanted)
    npz.write(found, np.arange(3), tmp_path / "out")
    assert np.load(tmp_path / "out/input-0.npy").shape == (2, 2, 7)
    assert np.load(tmp_path / "out/input-0-1.npy")[:, 0, 0].tolist() == [1]
    assert json.loads((tmp_path / "out/groups.json").read_text())["groups"] == [2, 1]


def test_only_the_headers_are_read_to_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 5), np.float32))
    np.savez_compressed(tmp_path / "b.npz", x=np.asfortranarray(np.zeros((2, 5), np.float32)))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(np.lib.format, "read_array", refuse)
    assert npz.find(tmp_path, {"x": STATEFUL["x"]}).rows == (3, 2)


@pytest.mark.parametrize(
    ("arrays", "message", "hint"),
    [
        ({"x": np.zeros((3, 4), np.float32)}, "a.npz: x is float32 [3, 4]", "float32 [N, 5]"),
        ({"x": np.zeros((3, 5))}, "a.npz: x is float64 [3, 5]", "float32 [N, 5]"),
        ({"x": np.zeros((3, 5, 1), np.float32)}, "a.npz: x is float32 [3, 5, 1]", "float32 [N, 5]"),
        ({"state": np.zeros((3, 3, 3), np.float32)}, "a.npz: state is float32 [3, 3, 3]", "float32 [2, N, 3]"),
        ({"state": np.zeros((2, 4, 3), np.float32)}, "a.npz holds [3, 4] rows", "same number"),
        ({"rate": np.zeros(1, np.int64)}, "a.npz: rate is int64 [1]", "int64 []"),
        ({"x": None}, "a.npz has no array x (it has rate, state)", "x, state, rate"),
        ({"x": np.array([{}])}, "a.npz: x is object [1]", "float32 [N, 5]"),
    ],
)
def test_what_does_not_fit_is_named_before_any_work(
    tmp_path: Path, arrays: dict[str, np.ndarray | None], message: str, hint: str
) -> None:
    fitting = {"x": np.zeros((3, 5), np.float32), "state": np.zeros((2, 3, 3), np.float32), "rate": np.int64(1)}
    given = {name: value for name, value in {**fitting, **arrays}.items() if value is not None}
    np.savez(tmp_path / "a.npz", **given)
    with pytest.raises(DataError) as caught:
        npz.find(tmp_path, STATEFUL)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", b"no archive"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read a\.npz"):
        npz.find(tmp_path, STATEFUL)


def test_one_file_stands_for_its_folder(tmp_path: Path) -> None:
    stateful(tmp_path / "in", [8, 8])
    assert [file.name for file in npz.files_of(tmp_path / "in")] == ["0.npz", "1.npz"]
    assert npz.files_of(tmp_path / "in/1.npz") == [tmp_path / "in/1.npz"]
    assert npz.files_of(tmp_path / "gone") == npz.files_of(tmp_path) == []
