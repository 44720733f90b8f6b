"""Which axis counts samples, by the names and sizes of all inputs together."""

from __future__ import annotations

from typing import Any

import pytest

from edgekd.workload.batch import batch_axes


@pytest.mark.parametrize(
    ("inputs", "axes"),
    [
        ({"x": ["N", 3, "H", "W"]}, [0]),
        ({"x": ["height", "width", 3, "batch"]}, [3]),
        ({"x": [None, 3, None, None]}, [0]),
        ({"x": [None, 3, "?", "?"]}, [0]),
        ({"x": ["unk__63", 640]}, [0]),
        ({"x": ["N", "T", 40], "state": [2, "N", 128]}, [0, 1]),
        ({"x": ["T", "N", 40], "state": [2, "N", 128]}, [1, 1]),
        ({"x": ["s0", "s1", 40], "state": [2, "s0", 128]}, [0, 1]),
        ({"x": ["N", 512], "state": [2, "N", 128], "rate": []}, [0, 1, None]),
        ({"x": ["N", 3], "anchors": [6, 4]}, [0, None]),
        ({"x": [1, 40, "T"]}, [0]),
        ({"x": [1, 40, "T"], "mask": [1, "T"]}, [0, 0]),
        ({"x": [4, 3, 8, 8], "more": [4, 5]}, [0, 0]),
        ({"state": [2, 1, 128], "x": [1, 512]}, [1, 0]),
        ({"x": [1, 3, 8, 8], "sizes": [6]}, [0, None]),
        ({"rate": []}, [None]),
    ],
)
def test_the_batch_is_what_the_inputs_share(inputs: dict[str, list[Any]], axes: list[int | None]) -> None:
    assert list(batch_axes(inputs).values()) == axes
