"""What can be checked before any work is checked then."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekd import recipe as recipes
from edgekd.errors import EdgekdError
from edgekd.project import _logit_bytes, open_project

VALUES: dict[str, Any] = {
    "name": "r",
    "data": {"path": "images", "size": 8},
    "teacher": {"model": "edgekd.models:resnet20"},
    "student": {"model": "edgekd.models:resnet20"},
}


def recipe(folder: Path, **tables: Any) -> recipes.Recipe:
    return recipes.parse({**VALUES, **tables}, "r.toml", folder)


@pytest.mark.parametrize(
    ("distill", "size"),
    [
        ({}, 0),
        ({"teacher_cache": {"views": 8}}, 8 * 100 * 2),
        ({"teacher_cache": {"views": 2, "top": 10}}, 2 * (11 * 2 + 10 * 4)),
        ({"teacher_cache": {"views": 2, "top": 99}}, 2 * 100 * 2),
        ({"teacher_cache": {"views": 2}, "seeds": [1, 2, 3]}, 3 * 2 * 100 * 2),
    ],
)
def test_a_cache_takes_two_bytes_a_logit_or_the_largest_with_their_columns(
    tmp_path: Path, distill: dict[str, Any], size: int
) -> None:
    assert _logit_bytes(recipe(tmp_path, distill=distill), 100) == size


def test_a_disk_too_small_for_the_cached_logits_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for number in range(12):
                image = Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8))
                image.save(tmp_path / "images" / split / label / f"{number}.png")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=600_000_000))
    open_project(recipe(tmp_path, distill={"teacher_cache": {"views": 8}}), tmp_path / "store")
    with pytest.raises(EdgekdError, match=r"0\.6 GB free, this build needs about 2") as raised:
        open_project(
            recipe(tmp_path, distill={"teacher_cache": {"views": 20_000_000}, "budget": "1h"}), tmp_path / "store"
        )
    assert "fewer views" in raised.value.hint
