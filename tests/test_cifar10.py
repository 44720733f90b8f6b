"""Published weights score what was published, through our loader, export and onnxruntime."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from edgekd.evaluate.stage import evaluate
from edgekd.export.stage import export
from edgekd.models.stage import initialise
from edgekd.recipe import Data, Model
from edgekd.ref import resolve
from edgekd.runtime import Settings
from edgekd.store import Store
from edgekd.workload.stage import prepare

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@pytest.fixture(scope="module")
def images(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 10,000 test images, and a few of train: no training happens here."""
    folder = tmp_path_factory.mktemp("cifar10")
    seen: dict[str, int] = {}
    with tarfile.open(shared_data / "cifar10.tar") as archive:
        for member in archive:
            split, _, rest = member.name.removeprefix("./").partition("/")
            place = f"{split}/{rest.partition('/')[0]}"
            seen[place] = seen.get(place, 0) + 1
            if split == "test" or seen[place] <= 20:
                archive.extract(member, folder, filter="data")
    return folder


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("name", "published"), [("resnet20", 0.9173), ("resnet56", 0.9339)])
def test_published_weights_score_what_was_published(
    images: Path, shared_data: Path, tmp_path_factory: pytest.TempPathFactory, name: str, published: float
) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "cifar10-store")
    data = store.run(prepare, source=images, val=None, config=Data(size=32), calibration=64).path
    code = resolve(f"edgekd.models:{name}", Path())
    start = store.run(
        initialise,
        code=code,
        weights=next((shared_data / "teachers").glob(f"{name}-*")),
        config=Model(model=code.spec, mean=MEAN, std=STD),
        classes=10,
        shape=(32, 32),
        seed=0,
    ).path
    graph = store.run(export, start=start, code=code, samples=data / "calibration", opset=18, ir=8).path
    result = store.run(evaluate, graph=graph, split=data / "test", settings=Settings(threads=2), instructions="")
    assert result.metrics["images"] == 10_000
    assert result.metrics["top1"] == pytest.approx(published, abs=0.0002)
