"""Do published weights score what was published, through our loader, export and onnxruntime?

    python benchmarks/teachers.py DATA WEIGHTS

DATA is CIFAR-10 as train/<class>/ and test/<class>/; WEIGHTS the folder of akamaster/pytorch_resnet_cifar10's files.
Writes benchmarks/results/teachers.json.
"""

from __future__ import annotations

import sys
from pathlib import Path

from results import write

from edgekd.evaluate.stage import evaluate
from edgekd.export.stage import export
from edgekd.models.stage import initialise
from edgekd.recipe import Data, Model
from edgekd.ref import resolve
from edgekd.run import Run
from edgekd.runtime import Settings
from edgekd.store import Store
from edgekd.workload.stage import prepare

_PUBLISHED = {"resnet20": 0.9173, "resnet56": 0.9339}
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def main(data: Path, weights: Path, store: Path) -> None:
    """Evaluate each network on all 10,000 test images."""
    stages = Store(store, Run(say=print))
    prepared = stages.run(prepare, source=data, val=None, config=Data(size=32), calibration=512).path
    figures = {}
    for name, published in _PUBLISHED.items():
        code = resolve(f"edgekd.models:{name}", Path())
        file = next(weights.glob(f"{name}*"))
        config = Model(model=code.spec, mean=_MEAN, std=_STD)
        start = stages.run(
            initialise, code=code, weights=file, config=config, classes=10, shape=(32, 32), seed=0
        ).path  # fmt: skip
        graph = stages.run(export, start=start, code=code, samples=prepared / "calibration", opset=18, ir=8).path
        settings = Settings(threads=2)
        result = stages.run(evaluate, graph=graph, split=prepared / "test", settings=settings, instructions="here")
        figures[name] = {**result.metrics, "published": published}
    write("teachers", figures)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(".edgekd"))
