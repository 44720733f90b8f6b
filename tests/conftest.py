"""The toy recipe, built once for all tests that look at a finished build."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import edgekd
from edgekd import ship
from edgekd.bench.measure import Inputs, Measured, measure
from edgekd.bench.statistics import Quantile
from edgekd.recipe import Bench
from edgekd.run import Run
from edgekd.runtime import Settings

TOY = Path(__file__).parent / "toy"
SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


@dataclass(frozen=True)
class ToyBuild:
    folder: Path
    """Holds the recipe, its store and dist/."""
    build: edgekd.Build
    lines: tuple[str, ...]

    def bundle(self, target: str) -> Path:
        return self.folder / "dist" / f"toy-{target}"


def twice_as_fast(
    models: Mapping[str, Path], settings: Settings, config: Bench, feeds: Mapping[str, Inputs] | None = None
) -> Measured:
    """Measure as always, but let every model be twice as fast as the first."""
    run = measure(models, settings, config, feeds)
    return run.model_copy(update={"faster": {name: Quantile(value=2.0, low=2.0, high=2.0) for name in models}})


@pytest.fixture(scope="session")
def copy_toy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Return a function that makes a fresh folder with the toy recipe."""

    def copy() -> Path:
        folder = tmp_path_factory.mktemp("toy") / "recipe"
        shutil.copytree(TOY, folder, ignore=shutil.ignore_patterns("__pycache__", ".edgekd", "dist"))
        return folder

    return copy


@pytest.fixture(scope="session")
def toy(copy_toy: Callable[[], Path]) -> ToyBuild:
    """The toy recipe, built for arm64 and cpu out of an empty store."""
    folder = copy_toy()
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        # The toy is so small that noise decides whether int8 or float is faster; tests must not hang on that.
        patch.setattr(ship, "measure", twice_as_fast)
        built = edgekd.build(folder, targets=["arm64", "cpu"], out=folder / "dist", run=Run(say=lines.append))
    return ToyBuild(folder, built, tuple(lines))


@pytest.fixture(scope="session")
def arm64_bundle(toy: ToyBuild) -> Path:
    """A finished bundle for arm64."""
    return toy.bundle("arm64")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """CIFAR-10 and published weights, beside the checkout."""
    if not (SHARED / "cifar10.tar").is_file():
        pytest.skip("no CIFAR-10 beside the checkout")
    return SHARED
