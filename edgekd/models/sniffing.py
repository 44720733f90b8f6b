"""What a file given as weights really is, where no weights can be read from it."""

from __future__ import annotations

import re
import struct
import zipfile
from pathlib import Path

_HEAD = 512
_TENSORS = "save the tensors alone where the model was trained: torch.save(model.state_dict(), …), or safetensors"
_AGAIN = "download the file itself again, and compare its size"
_FORMATS = (
    (b"version https://git-lfs", "a git-lfs pointer, which stands for the real file", "fetch the file: git lfs pull"),
    (b"\x89HDF\r\n", "an HDF5 file, as Keras writes", _TENSORS),
    (b"\x93NUMPY", "a NumPy array", _TENSORS),
    (b"GGUF", "a GGUF file", _TENSORS),
    (b"\x1f\x8b", "compressed by gzip", "unpack it first"),
    (b"BZh", "compressed by bzip2", "unpack it first"),
    (b"\xfd7zXZ", "compressed by xz", "unpack it first"),
)
# What zipfile was seen to raise for damaged archives.
_BROKEN = (OSError, ValueError, IndexError, NotImplementedError, struct.error, zipfile.BadZipFile)


def foreign(file: Path) -> tuple[str, str] | None:
    """Return (what the file is, a hint) where its first bytes say that it holds no weights, else None."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    if not head:
        return "an empty file", _AGAIN
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "an HTML page" if b"html" in text else "an XML file", f"a login or an error came instead: {_AGAIN}"
    if text.startswith((b'{"', b"[{", b"{\n")):
        return "JSON text", f"perhaps a server's error: {_AGAIN}"
    if _is_torchscript(file):
        return "a TorchScript program", f"{_TENSORS} (of torch.jit.load(…))"
    return next(((kind, hint) for magic, kind, hint in _FORMATS if head.startswith(magic)), None)


def is_safetensors(file: Path) -> bool:
    """Whether a file is of that format by its first bytes: the size of its header, and the header's JSON."""
    with file.open("rb") as stream:
        head = stream.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < file.stat().st_size


def refused(file: Path, error: Exception) -> tuple[str, str]:
    """Return (what the file is, a hint) where torch or safetensors could not read it; nothing of torch's own advice."""
    pickled = re.search(r"GLOBAL (\S+)", str(error))
    if pickled is not None:
        return f"it holds pickled Python objects ({pickled[1]}), which run code when they are loaded", _TENSORS
    with file.open("rb") as stream:
        head = stream.read(4)
    if head.startswith(b"PK") and _names(file) is None:
        return f"it is a torch file that is damaged or was cut short, of {file.stat().st_size} bytes", _AGAIN
    if head.startswith(b"PK"):
        return "it is a zip archive that torch cannot read, or a damaged torch file", _AGAIN
    if head.startswith(b"\x80"):
        return "it is a pickle of Python objects, which run code when they are loaded", _TENSORS
    if file.suffix == ".safetensors":
        return "it is not of the format that its name says", _AGAIN
    return "it is neither a torch file nor safetensors", _TENSORS


def _is_torchscript(file: Path) -> bool:
    return any(name.endswith("/constants.pkl") for name in _names(file) or ())


def _names(file: Path) -> list[str] | None:
    """Return the names inside a zip archive, or None for what is not one."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()
    except _BROKEN:
        return None
