"""Seeded damage: of bytes, of PNG chunks, of the arrays in an .npz, and of any field of an ONNX file."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

Generator = np.random.Generator
_ODD_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFF)
_ODD_NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 10, 11, 13, 16, 127, 255, 500),
    *(2**31 - 1, 2**31, 2**40, 2**63 - 1, -(2**31), -(2**63)),
)
_ODD_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-38, 1e38, float("nan"), float("inf"), float("-inf"))
_ODD_TEXTS = ("", "x", "N", "ai.onnx", "com.microsoft", "a\nb", "\x00", "ü")
_OPERATORS = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Concat", "Clip", "Relu", "Sigmoid", "Softmax"),
    *("GlobalAveragePool", "MaxPool", "Reshape", "Flatten", "Transpose", "Identity", "Cast", "Expand", "Split"),
    *("BatchNormalization", "LayerNormalization", "ReduceMean", "Resize", "Slice", "Pad", "Gather", "LSTM", "GRU"),
    *("If", "Loop", "Constant", "ConstantOfShape", "Shape", "DequantizeLinear", "QuantizeLinear", "NoSuchOperator"),
)


def one(items: Sequence[Any], generator: Generator) -> Any:
    """Return one of some items."""
    return items[int(generator.integers(len(items)))]


def of_bytes(content: bytes, generator: Generator) -> bytes:
    """Return bytes with one to four of them flipped, overwritten, cut off, inserted or repeated."""
    held = bytearray(content)
    for _ in range(int(generator.integers(1, 5))):
        _BYTES[int(generator.integers(len(_BYTES)))](held, generator)
    return bytes(held)


def _flip(held: bytearray, generator: Generator) -> None:
    if held:
        held[_place(held, generator)] ^= 1 << int(generator.integers(8))


def _overwrite(held: bytearray, generator: Generator) -> None:
    if held:
        held[_place(held, generator)] = one(_ODD_BYTES, generator)


def _overwrite_word(held: bytearray, generator: Generator) -> None:
    """Put a size that is odd where one may be, in either order of bytes."""
    if len(held) >= 4:
        at = min(_place(held, generator), len(held) - 4)
        struct.pack_into(one("<>", generator) + "I", held, at, one(_ODD_NUMBERS, generator) % 2**32)


def _cut(held: bytearray, generator: Generator) -> None:
    del held[_place(held, generator) :]


def _remove(held: bytearray, generator: Generator) -> None:
    at = _place(held, generator)
    del held[at : at + int(generator.integers(1, 33))]


def _insert(held: bytearray, generator: Generator) -> None:
    at = _place(held, generator)
    held[at:at] = generator.bytes(int(generator.integers(1, 33)))


def _repeat(held: bytearray, generator: Generator) -> None:
    start, length = _place(held, generator), int(generator.integers(1, 257))
    at = _place(held, generator)
    held[at:at] = held[start : start + length] * int(generator.integers(1, 4))


def _place(held: bytearray, generator: Generator) -> int:
    """Return where to change something: every other time near the beginning, where the headers are."""
    most = min(len(held), 128) if generator.random() < 0.5 else len(held)
    return int(generator.integers(max(1, most)))


_BYTES: tuple[Callable[[bytearray, Generator], None], ...] = (
    _flip, _overwrite, _overwrite_word, _cut, _remove, _insert, _repeat,
)  # fmt: skip


def of_png(content: bytes, generator: Generator) -> bytes:
    """Return a PNG with chunks that are damaged inside, swapped or repeated, each with a right checksum."""
    chunks = []
    at = 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(int(generator.integers(1, 4))):
        number, kind = int(generator.integers(len(chunks))), generator.random()
        name, values = chunks[number]
        if kind < 0.6:
            chunks[number] = name, of_bytes(values, generator)
        elif kind < 0.8:
            chunks.insert(int(generator.integers(len(chunks) + 1)), (name, values))
        else:
            chunks.insert(int(generator.integers(len(chunks))), chunks.pop(number))
    return content[:8] + b"".join(_chunk(name, values) for name, values in chunks)


def _chunk(name: bytes, values: bytes) -> bytes:
    return struct.pack(">I", len(values)) + name + values + struct.pack(">I", zlib.crc32(name + values))


def of_npz(content: bytes, generator: Generator) -> bytes:
    """Return an .npz with one array damaged inside a whole archive, so that no checksum stops it at once."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = one(list(members), generator)
    members[name] = of_bytes(members[name], generator)
    if generator.random() < 0.3:
        members[one([name, "y.npy", "../x.npy", "x"], generator)] = members.pop(name)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", one([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], generator)) as archive:
        for each, values in members.items():
            archive.writestr(each, values)
    return out.getvalue()


def of_model(content: bytes, generator: Generator) -> bytes:
    """Return an ONNX file with one to three fields changed: of any message in it, by its type."""
    model = onnx.ModelProto.FromString(content)
    for _ in range(one([1, 1, 1, 2, 3], generator)):
        _of_message(one(list(_messages(model)), generator), model, generator)
    return model.SerializeToString()


def _messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for part in value if hasattr(value, "extend") else [value]:
                yield from _messages(part)


def _of_message(message: Message, model: Message, generator: Generator) -> None:
    """Change one field: mostly one that is set, else any that the type has."""
    filled = [field for field, _ in message.ListFields()]
    field = one(filled if filled and generator.random() < 0.9 else message.DESCRIPTOR.fields, generator)
    now = getattr(message, field.name)
    if generator.random() < 0.1:
        message.ClearField(field.name)
    elif hasattr(now, "extend"):
        _of_repeated(now, field, model, generator)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        now.SetInParent()
        _copy_another(now, model, generator)
    else:
        setattr(message, field.name, _value(field, now, model, generator))


def _of_repeated(values: Any, field: FieldDescriptor, model: Message, generator: Generator) -> None:
    kind = generator.random()
    if len(values) and kind < 0.3:
        del values[int(generator.integers(len(values)))]
    elif len(values) > 1 and kind < 0.45:
        held = list(values)
        order = generator.permutation(len(held))
        del values[:]
        values.extend(held[number] for number in order)
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        _copy_another(values.add(), model, generator)
    elif len(values) and kind < 0.8:
        at = int(generator.integers(len(values)))
        values[at] = _value(field, values[at], model, generator)
    else:
        values.append(_value(field, field.default_value or 0, model, generator))


def _copy_another(message: Message, model: Message, generator: Generator) -> None:
    """Make a message a copy of another one of its type in the same model."""
    kind = message.DESCRIPTOR.full_name
    held = message.__class__()
    held.CopyFrom(one([each for each in _messages(model) if each.DESCRIPTOR.full_name == kind], generator))
    message.CopyFrom(held)


def _value(field: FieldDescriptor, now: Any, model: Message, generator: Generator) -> Any:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return int(one([value.number for value in field.enum_type.values], generator))
    if field.cpp_type in {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}:
        return one(_ODD_FLOATS, generator)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text(field, model, generator)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return of_bytes(now, generator) if isinstance(now, bytes) else generator.bytes(4)
    number = one(_ODD_NUMBERS, generator) if generator.random() < 0.6 else int(now) + one([-1, 1, 2], generator)
    return _within(field, number)


def _text(field: FieldDescriptor, model: Message, generator: Generator) -> str:
    """Return a text that the same field has elsewhere in the model, so that what is wired wrongly is still wired."""
    if field.name == "op_type":
        return str(one(_OPERATORS, generator))
    names = {"input", "output", "name"}
    alike = names if field.name in names else {field.name}
    known = [text for each in _messages(model) for text in _texts(each, alike)]
    return str(one(known if known and generator.random() < 0.8 else _ODD_TEXTS, generator))


def _texts(message: Message, names: set[str]) -> list[str]:
    found: list[str] = []
    for field, value in message.ListFields():
        if field.name in names and field.type == FieldDescriptor.TYPE_STRING:
            found += value if hasattr(value, "extend") else [value]
    return found


def _within(field: FieldDescriptor, number: int) -> int:
    bits = 32 if field.cpp_type in {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32} else 64
    number %= 2**bits
    is_signed = field.cpp_type in {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}
    return number - 2**bits if is_signed and number >= 2 ** (bits - 1) else number
