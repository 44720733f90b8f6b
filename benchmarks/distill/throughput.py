"""How many images a second does distillation train, with a live teacher?

    python benchmarks/throughput.py [--repeats 5] [--steps 60]

ResNet-56 teaches ResNet-20 on random pixels, batch 128, by edgekd's own loop, interleaved with the student alone
(cross-entropy, no teacher). Writes benchmarks/results/throughput.json.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from results import write
from torch import Tensor

from edgekd.distill.losses import logit_kd
from edgekd.distill.teacher import frozen
from edgekd.models import resnet20, resnet56
from edgekd.models.network import Network, Plan
from edgekd.recipe import Compute, Distill
from edgekd.run import Run
from edgekd.train import loop
from edgekd.train.batches import Examples
from edgekd.train.device import open_fabric, resolve
from edgekd.train.loop import Course, Loss
from edgekd.workload.normalisation import Normalisation

_BATCH = 128


def main() -> None:
    """Measure by turns and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    place = resolve(Compute())
    fabric = open_fabric(place)
    teach = frozen(Network(resnet56(), Plan(model="resnet56")), fabric, place)

    def under_teacher(logits: Tensor, pixels: Tensor, labels: Tensor) -> Tensor:
        return logit_kd(logits, teach(pixels), labels, 4.0, 0.1)

    def alone(logits: Tensor, pixels: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)

    def speed(loss: Loss, steps: int) -> float:
        images = steps * _BATCH
        examples = Examples(
            torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8), torch.randint(0, 10, (images,))
        )
        few = Examples(examples.images[:_BATCH], examples.labels[:_BATCH])
        config = Distill(epochs=1, batch=_BATCH, lr=1e-3)
        course = Course("throughput", examples, few, Normalisation(), config, keep_best=False)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            loop.fit(resnet20(), loss, course, fabric, Path(folder), Run())
            return images / (time.perf_counter() - start)

    speed(under_teacher, 10)
    pairs = [(speed(under_teacher, arguments.steps), speed(alone, arguments.steps)) for _ in range(arguments.repeats)]
    taught, bare = ([pair[index] for pair in pairs] for index in (0, 1))
    write(
        "throughput",
        {
            "precision": place.precision,
            "threads": place.threads,
            "images_per_second_live_teacher": summary(taught),
            "images_per_second_student_alone": summary(bare),
        },
    )


def summary(speeds: list[float]) -> dict[str, object]:
    """Return the median and every value."""
    return {"median": round(statistics.median(speeds)), "all": [round(speed) for speed in speeds]}


if __name__ == "__main__":
    main()
