"""TOML as users write it: a table of values, or one line that says what is wrong with which of theirs."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from edgekd.errors import EdgekdError, uncapitalised

_DEEPEST = 32
"""Tables and arrays inside one another; no key of ours lies deeper than 5."""
_SHOWN = 80
_AT = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_FORM = "a line is `key = value` or `[table]`; text stands in quotes; true and false are in small letters"


def read(file: Path, where: str, kind: type[EdgekdError]) -> dict[str, Any]:
    """Return the values of a file. Raises an error of that kind for a file that is not TOML, and OSError."""
    content = file.read_bytes()
    try:
        # Editors on Windows begin a file with a byte order mark, which tomllib refuses.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(content, error, where, kind) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _broken(text, str(error), where, kind) from None
    except RecursionError:
        raise _too_deep(text, where, kind) from None
    except ValueError:
        # Python converts no text of more digits to a number, since that takes quadratic time.
        raise _too_long(text, where, kind) from None
    if is_too_deep(values):
        raise _too_deep(text, where, kind)
    return values


def value_of(text: str) -> Any:
    """Return one value as TOML reads it; anything else is text. Raises ValueError(reason, hint)."""
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        if text.strip().startswith('"'):
            raise ValueError(uncapitalised(_AT.sub("", str(error))), _hint(text)) from None
        return text
    except RecursionError:
        raise ValueError("arrays or tables lie too deep inside one another", f"at most {_DEEPEST} deep") from None
    except ValueError:
        raise ValueError("a number has too many digits", "whole numbers have at most 64 bits") from None
    # More than one key: a line break in the text, so it is not one TOML value.
    return found["value"] if set(found) == {"value"} else text


def is_too_deep(values: object) -> bool:
    """Whether arrays and tables lie deeper inside one another than any recipe needs; what comes next recurses."""
    level: list[object] = [values]
    for _ in range(_DEEPEST):
        inner: list[object] = []
        for each in level:
            inner += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        level = inner
    return any(isinstance(each, dict | list) for each in level)


def _broken(text: str, said: str, where: str, kind: type[EdgekdError]) -> EdgekdError:
    lines = text.split("\n")
    at = _AT.search(said)
    number = min(int(at[1]), len(lines)) if at and at[1] else len(lines)
    while number > 1 and not lines[number - 1].strip():
        number -= 1
    line = lines[number - 1]
    column = int(at[2]) if at and at[2] else len(line)
    reason = uncapitalised(_AT.sub("", said))
    return kind(f"{where}: line {number}: {reason}: {_quoted(line, column)}", _hint(line))


def _hint(line: str) -> str:
    if "\\" in line:
        return 'in "…" a backslash begins an escape: write paths as \'C:\\data\' in single quotes, or as "C:/data"'
    return _FORM


def _too_deep(text: str, where: str, kind: type[EdgekdError]) -> EdgekdError:
    number, line = max(enumerate(text.split("\n"), start=1), key=lambda each: sum(map(each[1].count, "[{.")))
    return kind(
        f"{where}: line {number}: arrays or tables lie too deep inside one another: {_quoted(line)}",
        f"a file may nest them {_DEEPEST} deep; no key needs more than 5",
    )


def _too_long(text: str, where: str, kind: type[EdgekdError]) -> EdgekdError:
    digits = sys.get_int_max_str_digits()
    lines = enumerate(text.split("\n"), start=1)
    number, line = max(lines, key=lambda each: max(map(len, re.findall(r"[0-9_]+", each[1])), default=0))
    return kind(
        f"{where}: line {number}: a number of more than {digits} digits: {_quoted(line)}",
        "whole numbers have at most 64 bits; text stands in quotes",
    )


def _not_utf8(content: bytes, error: UnicodeDecodeError, where: str, kind: type[EdgekdError]) -> EdgekdError:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return kind(f"{where}: the file is UTF-16", "save it as UTF-8, which is what TOML is written in")
    number = content.count(b"\n", 0, error.start) + 1
    line = content.split(b"\n")[number - 1].decode("utf-8", "replace")
    return kind(
        f"{where}: line {number}: the byte 0x{content[error.start]:02x} is not UTF-8: {_quoted(line)}",
        "save it as UTF-8, which is what TOML is written in",
    )


def _quoted(line: str, column: int = 1) -> str:
    """Return a line, or of a long one the part around a column that counts from 1."""
    start = max(0, column - _SHOWN // 2) if len(line) > _SHOWN else 0
    part = line[start : start + _SHOWN]
    return f"{'…' if start else ''}{part.strip()}{'…' if start + _SHOWN < len(line) else ''}"
