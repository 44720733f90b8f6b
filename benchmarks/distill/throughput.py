"""How many images a second does distillation train, and what does each loss of logits cost?

    python benchmarks/distill/throughput.py [--repeats 5] [--steps 60]

ResNet-20 on random pixels, batch 128, by edgekd's own loop, by turns in one process: the labels alone, under a live
ResNet-56, under its cached logits, and under each loss of cached logits. Both networks are random, and seeded. Writes
benchmarks/results/distill-throughput.json: images a second (medians), and for each loss its step against that of the
labels alone (the median of the ratios within a round).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import write

from edgekd.distill import cache
from edgekd.distill.criterion import CrossEntropy, UnderTeacher
from edgekd.distill.teacher import frozen
from edgekd.models import resnet20, resnet56
from edgekd.models.network import Network, Plan
from edgekd.models.pixels import normalise
from edgekd.recipe import Compute, Distill
from edgekd.recipe.losses import Dist, Dkd, Kd, Mse
from edgekd.run import Run
from edgekd.train import loop
from edgekd.train.batches import Examples
from edgekd.train.device import open_fabric, resolve
from edgekd.train.loop import Course
from edgekd.workload.normalisation import Normalisation

_BATCH = 128
_LOSSES = {
    "kd": Kd(),
    "dkd": Dkd(),
    "dist": Dist(),
    "mse": Mse(),
    "kd standardized": Kd(standardize=True),
}


def main() -> None:
    """Measure by turns and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    place = resolve(Compute())
    fabric = open_fabric(place)
    count = arguments.steps * _BATCH
    pixels, labels = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8), torch.randint(0, 10, (count,))
    examples = Examples(pixels.to(fabric.device), labels.to(fabric.device))
    teach = frozen(teacher_of(pixels[:_BATCH]), fabric, place)
    # Random networks: nothing is to be learned from them.
    config = Distill(epochs=1, batch=_BATCH, lr=1e-12)
    with tempfile.TemporaryDirectory() as folder:
        cache.write(
            Path(folder) / "logits", lambda batch: teach(batch.pixels), examples, config.augment, 0, _BATCH, 1, 0, Run()
        )
        cached = cache.read(Path(folder) / "logits", fabric.device)
    criteria: dict[str, Callable[[], nn.Module]] = {
        "student alone": lambda: CrossEntropy(0.0),
        "live teacher": lambda: UnderTeacher(config, lambda batch: teach(batch.pixels), None),
        **{
            f"cached {name}": lambda loss=loss: UnderTeacher(Distill(alpha=0.1, loss=(loss,)), cached, None)
            for name, loss in _LOSSES.items()
        },
    }

    def speed(criterion: nn.Module) -> float:
        few = Examples(examples.images[:_BATCH], examples.labels[:_BATCH])
        course = Course("throughput", examples, few, Normalisation(), config, keep_best=False, views=1)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            loop.fit(resnet20(), criterion, course, fabric, Path(folder), Run())
            return count / (time.perf_counter() - start)

    speed(criteria["live teacher"]())
    rounds = [{name: speed(make()) for name, make in criteria.items()} for _ in range(arguments.repeats)]
    alone = [each["student alone"] for each in rounds]
    write(
        "distill-throughput",
        {
            "place": place.model_dump(),
            "images_per_second": {name: summary([each[name] for each in rounds]) for name in criteria},
            "step_against_labels_alone": {
                name: round(statistics.median(one / each[name] for one, each in zip(alone, rounds, strict=True)), 3)
                for name in criteria
            },
        },
    )


def teacher_of(pixels: Tensor) -> Network:
    """Return a random ResNet-56 whose BatchNorms have the statistics of these images [N, H, W, C], as after a training.

    With those that it starts with, each block adds to what came before it, and logits leave the range of float16.
    """
    network = Network(resnet56(), Plan(model="resnet56"))
    for layer in network.module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the mean over what is seen, here of one batch
    with torch.no_grad():
        network.module.train()(normalise(pixels.permute(0, 3, 1, 2), network.plan.normalisation))
    return network


def summary(speeds: list[float]) -> dict[str, object]:
    """Return the median and every value."""
    return {"median": round(statistics.median(speeds)), "all": [round(speed) for speed in speeds]}


if __name__ == "__main__":
    main()
