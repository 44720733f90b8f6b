"""What the rows of a comparison are called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath


def distinct(files: Sequence[Path]) -> list[str]:
    """Return a name for each file: the shortest end of its path that no other file's path has.

    `a/m/model.onnx` and `b/m/model.onnx` keep all three parts; of one file given twice the second is numbered.
    """
    # Links are not resolved: two links to one file have names of their own.
    paths = [PurePath(os.path.normpath(file.absolute())) for file in files]
    names = [_shortest(path, [other for other in paths if other != path]) for path in paths]
    seen: Counter[str] = Counter()
    for number, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1:
            names[number] = f"{name} ({seen[name]})"
    return names


def _shortest(path: PurePath, others: Sequence[PurePath]) -> str:
    for count in range(1, len(path.parts)):
        end = path.parts[-count:]
        if not any(other.parts[-count:] == end for other in others):
            return "/".join(end)
    return path.as_posix()
