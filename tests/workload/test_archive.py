"""An .npz file of a stranger is read, or is one error: never unpickled, never taking memory that it only claims."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgekd.errors import DataError
from edgekd.workload import archive

X = np.arange(60, dtype=np.float32).reshape(12, 5)


def npy(header: str | bytes, values: bytes = b"", version: int = 1) -> bytes:
    """Return an array file with a header as it is given."""
    text = header if isinstance(header, bytes) else header.encode("latin1")
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + values


def described(shape: str, kind: str = "'<f4'") -> str:
    return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n"


def packed(file: Path, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", method) as made:
        made.writestr("x.npy", content)
    return file


def refused(file: Path) -> DataError:
    """Both ways to look at a file give one error with a hint."""
    with pytest.raises(DataError) as looked:
        archive.look(file, ["x"])
    with pytest.raises(DataError) as read:
        archive.read(file, ["x"])
    assert looked.value.message == read.value.message
    assert "\n" not in read.value.message
    assert read.value.hint
    return read.value


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("array", [X, np.asfortranarray(X), np.float64(3), np.zeros((0, 4), np.int8), X > 3])
def test_what_numpy_writes_is_read_as_numpy_reads_it(tmp_path: Path, save: object, array: np.ndarray) -> None:
    save(tmp_path / "a.npz", x=array, y=X)  # type: ignore[operator]
    found = archive.look(tmp_path / "a.npz", ["x", "z"])
    assert found.names == ("x", "y")
    expected = np.load(tmp_path / "a.npz")["x"]
    assert found.headers == {"x": archive.Header(expected.shape, expected.dtype)}
    read = archive.read(tmp_path / "a.npz", ["x"])["x"]
    assert (read.dtype, read.shape) == (expected.dtype, expected.shape)
    assert np.array_equal(read, expected)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_any_flipped_byte_of_an_array_is_an_error(tmp_path: Path, method: int) -> None:
    """zlib.error, BadZipFile by the checksum, a header that no longer parses: all of them once escaped or passed."""
    held = io.BytesIO()
    np.save(held, X)
    whole = packed(tmp_path / "a.npz", held.getvalue(), method).read_bytes()
    start, end = whole.index(b"x.npy") + 5, whole.index(b"PK\x01\x02")
    assert end - start > 100
    refused = 0
    for at in range(start, end):
        (tmp_path / "a.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        try:
            found = archive.read(tmp_path / "a.npz", ["x"])["x"]
        except DataError as error:
            assert error.message.startswith("cannot read a.npz: ")
            refused += 1
        else:
            # The last byte of a deflated stream has bits that mean nothing.
            assert np.array_equal(found, X)
    assert refused >= end - start - 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (npy(described("(1000000000000,)"), bytes(8)), "x is float32 [1000000000000], 4000000000000 bytes"),
        (npy(described("(1000000, 1000000, 1000000)")), "4000000000000000000 bytes, but the file holds 0"),
        (npy(described("(3,)"), bytes(11)), "12 bytes, but the file holds 11"),
        (npy(described("(3,)"), bytes(13)), "12 bytes, but the file holds 13"),
        (npy(described("(-3,)"), bytes(12)), "x is float32 [-3]"),
        (npy(described("(3,)", "'V1000000000'"), bytes(8)), "3000000000 bytes"),
        *(
            (content, "x does not begin as numpy's arrays do")
            for content in (
                npy("{'descr': (("),
                npy("(" * 5000),
                npy("-" * 9000 + "1"),
                npy(described("(3,)", "[('a',)]")),
                npy(b"\xff" * 100),
                npy("{'descr': 1.5j, 'fortran_order': 2, 'shape': 3}"),
                npy(b"x" * 20000, version=2),
                b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 100,
                b"\x93NUMPY\x09\x00\x10\x00",
                b"",
                b"no array",
            )
        ),
    ],
)
def test_a_header_that_lies_or_does_not_parse_is_an_error(tmp_path: Path, content: bytes, reason: str) -> None:
    assert reason in refused(packed(tmp_path / "a.npz", content)).message


def changed(file: Path, at: int, pattern: str, value: int) -> Path:
    """Change a field of the archive's one entry, in its own header and in the central directory."""
    content = bytearray(file.read_bytes())
    for mark, offset in ((b"PK\x03\x04", at), (b"PK\x01\x02", at + 2)):
        struct.pack_into(pattern, content, content.index(mark) + offset, value)
    file.write_bytes(content)
    return file


def test_an_encrypted_member_and_an_unknown_compression_are_errors(tmp_path: Path) -> None:
    content = npy(described("(3,)"), bytes(12))
    assert "encrypted" in refused(changed(packed(tmp_path / "a.npz", content), 6, "<H", 1)).message
    assert "not supported" in refused(changed(packed(tmp_path / "b.npz", content), 8, "<H", 99)).message
    assert "numpy does not write" in refused(packed(tmp_path / "c.npz", content, zipfile.ZIP_LZMA)).message


def test_a_size_that_the_compressed_bytes_cannot_hold_is_an_error(tmp_path: Path) -> None:
    """The archive's directory lies as well as the array's header: 2 GB out of a few bytes."""
    header = npy(described("(500000000,)"))
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = packed(tmp_path / f"{method}.npz", header + bytes(64), method)
        message = refused(changed(file, 22, "<I", len(header) + 2_000_000_000)).message
        assert "x is float32 [500000000], 2000000000 bytes, more than" in message


def test_a_bomb_is_an_error_and_data_of_zeros_are_not(tmp_path: Path) -> None:
    """2 GB out of 4 MB are refused before any of it is inflated; 64 MB of zeros out of 64 kB are data."""
    header = npy(described("(500000000,)"))
    noise = np.random.default_rng(0).bytes(4_000_000)
    file = changed(packed(tmp_path / "a.npz", header + noise), 22, "<I", len(header) + 2_000_000_000)
    assert "save it with numpy.savez, uncompressed" in refused(file).message
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros(2**24, np.float32))
    assert archive.read(tmp_path / "b.npz", ["x"])["x"].sum() == 0


class Runs:
    """Pickled, it would write a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([Runs(tmp_path / "ran")], dtype=object))
    assert archive.look(tmp_path / "a.npz", ["x"]).headers["x"].kind == np.dtype(object)
    with pytest.raises(DataError, match="allow_pickle"):
        archive.read(tmp_path / "a.npz", ["x"])
    packed(tmp_path / "b.npz", pickle.dumps(Runs(tmp_path / "ran")))
    refused(tmp_path / "b.npz")
    assert not (tmp_path / "ran").exists()


def test_arrays_that_nobody_asked_for_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", big=np.zeros(10), x=X, other=np.array([{}], dtype=object))
    opened: list[str] = []
    original = zipfile.ZipFile.open

    def spy(self: zipfile.ZipFile, name: str, *arguments: object, **more: object) -> object:
        opened.append(name)
        return original(self, name, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(zipfile.ZipFile, "open", spy)
    assert archive.look(tmp_path / "a.npz", ["x"]).names == ("big", "x", "other")
    assert np.array_equal(archive.read(tmp_path / "a.npz", ["x"])["x"], X)
    assert set(opened) == {"x.npy"}


def test_a_header_that_claims_4_gb_takes_no_memory(tmp_path: Path) -> None:
    """numpy reads as much as the header's length says before it says that this is too long."""
    content = b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 2**26
    packed(tmp_path / "a.npz", content)
    tracemalloc.start()
    refused(tmp_path / "a.npz")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**20
