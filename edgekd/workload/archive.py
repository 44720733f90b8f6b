"""The arrays of an .npz file, whoever made it: nothing is unpickled, what nobody asked for is not decompressed.

What a file declares is held against what it holds before memory is spent on it.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from edgekd.errors import DataError, first_line, printable

_ARRAY = ".npy"
_MOST_HEADER = 2**14
"""numpy itself reads no header above 10,000 characters, but reads it into memory before it says so."""
_MOST_RATIO = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
"""How many times as large an array can be as its compressed bytes, by the two methods that numpy writes."""
_MOST_INFLATED, _BOMB_RATIO = 2**30, 200
"""No data of this size shrink so much, in bytes and times."""


@dataclass(frozen=True)
class Header:
    """What an array is, without its values."""

    shape: tuple[int, ...]
    kind: np.dtype[Any]


@dataclass(frozen=True)
class Contents:
    """What a file holds."""

    names: tuple[str, ...]
    """Of all arrays."""
    headers: dict[str, Header]
    """Of those that were asked for, as far as the file has them."""


def look(file: Path, wanted: Iterable[str]) -> Contents:
    """Return the names of all arrays, and the headers of some, without reading values. Raises DataError."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(_ARRAY) for name in archive.namelist() if name.endswith(_ARRAY)]
            headers = {name: _header(archive, name) for name in wanted if name in names}
    except Exception as error:
        raise _unreadable(file, error) from None
    return Contents(tuple(names), headers)


def read(file: Path, wanted: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return some arrays of a file. Raises DataError."""
    try:
        with zipfile.ZipFile(file) as archive:
            return {name: _array(archive, name) for name in wanted}
    except Exception as error:
        raise _unreadable(file, error) from None


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    _header(archive, name)
    with archive.open(name + _ARRAY) as stream:
        array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
        return array


def _header(archive: zipfile.ZipFile, name: str) -> Header:
    """Return the header of an array. Raises ValueError where it is not one, or not that of what follows."""
    with archive.open(name + _ARRAY) as stream:
        start = BytesIO(stream.read(_MOST_HEADER))
    header = _parsed(start, name)
    if any(side < 0 for side in header.shape):
        raise ValueError(f"{name} is {header.kind} {list(header.shape)}")
    if not header.kind.hasobject:
        _check_size(archive.getinfo(name + _ARRAY), header, start.tell(), name)
    return header


def _parsed(start: BytesIO, name: str) -> Header:
    try:
        old = npy.read_magic(start) == (1, 0)
        shape, _, kind = (npy.read_array_header_1_0 if old else npy.read_array_header_2_0)(start)
    except Exception:
        # It is a Python literal: parsing it may raise anything, with words about Python's own insides.
        raise ValueError(f"{name} does not begin as numpy's arrays do") from None
    return Header(shape, kind)


def _check_size(member: zipfile.ZipInfo, header: Header, offset: int, name: str) -> None:
    """Raise ValueError where an array is of another size than its header says, or than its bytes can be."""
    declared, held, packed = (
        math.prod(header.shape) * header.kind.itemsize,
        member.file_size - offset,
        member.compress_size,
    )
    what = f"{name} is {header.kind} {list(header.shape)}, {declared} bytes"
    if declared != held:
        raise ValueError(f"{what}, but the file holds {held}")
    ratio = _MOST_RATIO.get(member.compress_type)
    if ratio is None:
        raise ValueError(f"{name} is compressed in a way that numpy does not write")
    if member.file_size > ratio * packed:
        raise ValueError(f"{what}, more than {packed} compressed bytes can hold")
    if member.file_size > _MOST_INFLATED and member.file_size > _BOMB_RATIO * packed:
        raise ValueError(f"{what}, out of {packed} compressed ones: save it with numpy.savez, uncompressed")


def _unreadable(file: Path, error: Exception) -> DataError:
    # zipfile, zlib, tokenize and numpy raise without a common base class.
    hint = "it is damaged, or not what numpy.savez writes: write it again"
    return DataError(f"cannot read {printable(file.name)}: {first_line(error)}", hint)
