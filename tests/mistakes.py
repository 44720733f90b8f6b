"""A recipe with a small network and small images, for what goes wrong when it is built."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgekd
from edgekd import recipe as recipes
from edgekd.errors import EdgekdError
from edgekd.run import Run

IMAGES = """
import numpy as np
from edgekd import Dataset, Split

def load():
    pixels = np.random.default_rng(0).integers(0, 256, (72, 16, 16, 3), np.uint8)
    labels = np.arange(36, dtype=np.int64) % 3
    return Dataset(Split(pixels[:36], labels), Split(pixels[36:], labels), ("bolt", "nut", "washer"))
"""
NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=3, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, padding=1)
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        y = self.conv(x).mean((2, 3))
        return self.fc(y)

def make(classes=3):
    return Net(classes)
"""
RECIPE = """
name = "r"
data = { source = "images:load", size = 16 }
teacher = { model = "nets:make" }
student = { model = "nets:make" }
distill = {}
"""


def written(folder: Path, nets: str = NETS, recipe: str = RECIPE, images: str = IMAGES) -> Path:
    (folder / "nets.py").write_text(nets, encoding="utf-8")
    (folder / "images.py").write_text(images, encoding="utf-8")
    (folder / "edgekd.toml").write_text(recipe, encoding="utf-8")
    return folder


def stopped(folder: Path, *overrides: str) -> tuple[str, str]:
    """Build what cannot be built; return (message, hint) and check that nothing was trained before."""
    lines: list[str] = []
    with pytest.raises(EdgekdError) as caught:
        edgekd.build(recipes.load(folder, overrides), targets=["arm64"], out=folder / "dist", run=Run(say=lines.append))
    assert not [line for line in lines if line.startswith(("teacher runs", "distill runs"))]
    assert "\x1b" not in caught.value.message + caught.value.hint
    return caught.value.message, caught.value.hint


def changed(old: str, new: str) -> str:
    assert old in NETS
    return NETS.replace(old, new)
