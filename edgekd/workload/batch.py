"""Which axis of a graph's inputs counts samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Dims = Sequence[int | str | None]
"""A shape as onnxruntime gives it: a number, or a name, or None where the size is open."""
_NAMES = {"n", "b", "bs"}


def batch_axes(inputs: Mapping[str, Dims]) -> dict[str, int | None]:
    """Return for each input the axis of the batch; None for one that has none, such as a sampling rate.

    Where a batch is open it has a name, and the inputs share it: `[N, T, 40]` beside a state `[2, N, 128]`; an axis
    without a name is the batch's where it is the first. Where it is fixed, it is the size that most inputs share.
    """
    name = _name(inputs)
    is_open = name is not None or any(dims and dims[0] is None for dims in inputs.values())
    wanted = name if is_open else _fixed(inputs)
    found: dict[str, int | None] = {}
    for key, dims in inputs.items():
        leads = is_open and len(dims) > 0 and not isinstance(dims[0], int)
        found[key] = list(dims).index(wanted) if wanted is not None and wanted in dims else 0 if leads else None
    return found


def _fixed(inputs: Mapping[str, Dims]) -> int | str | None:
    """Return the first size of an input that the most inputs have."""
    leading = [dims[0] for dims in inputs.values() if dims]
    return max(leading, key=lambda size: sum(size in dims for dims in inputs.values()), default=None)


def _name(inputs: Mapping[str, Dims]) -> str | None:
    """Return what the open batch is called: of the names that all inputs share, one that is usual or comes first."""
    named = [list(dims) for dims in inputs.values() if any(isinstance(size, str) for size in dims)]
    shared = [
        size
        for size in (named[0] if named else [])
        if isinstance(size, str) and all(dims.count(size) == 1 for dims in named)
    ]
    usual = [size for size in shared if size.lower() in _NAMES or size.lower().startswith("batch")]
    leading = [size for size in shared if any(dims[0] == size for dims in named)]
    first = [dims[0] for dims in named if isinstance(dims[0], str)]
    return next(iter([*usual, *leading, *first]), None)
