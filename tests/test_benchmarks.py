"""The benchmarks that the README names are there, and what they set up holds for every seed."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from edgekd.models.pixels import normalise

ROOT = Path(__file__).parent.parent


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark of that name, as a module."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # it adds its folder
    file = ROOT / "benchmarks" / "distill" / "throughput.py"
    description = importlib.util.spec_from_file_location("throughput", file)
    assert description is not None
    assert description.loader is not None
    module = importlib.util.module_from_spec(description)
    description.loader.exec_module(module)
    return module


def test_every_benchmark_that_the_readme_names_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"benchmarks/[\w/]+\.py", text))
    assert len(named) > 15
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("seed", range(4))
def test_a_random_teachers_logits_differ_and_fit_into_the_cache(throughput: ModuleType, seed: int) -> None:
    """The cache holds float16, up to 65504; a ResNet-56 as it is initialised gives up to 52,000 for such seeds."""
    torch.manual_seed(seed)
    pixels = torch.randint(0, 256, (64, 32, 32, 3), dtype=torch.uint8)
    teacher = throughput.teacher_of(pixels)
    with torch.no_grad():
        logits = teacher.module.eval()(normalise(pixels.permute(0, 3, 1, 2), teacher.plan.normalisation))
    assert float(logits.std()) > 0.1
    assert float(logits.abs().max()) < 100
