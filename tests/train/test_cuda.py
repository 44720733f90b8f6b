"""What only a GPU can show: run with `pytest -m cuda`."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from edgekd.distill.criterion import CrossEntropy, UnderTeacher
from edgekd.distill.teacher import frozen
from edgekd.models.cifar_resnet import resnet20
from edgekd.models.network import Network, Plan
from edgekd.recipe import Augment, Compute, Distill, RandAugment
from edgekd.run import Run
from edgekd.train import batches, draws, loop
from edgekd.train.batches import Examples
from edgekd.train.checkpoint import State
from edgekd.train.device import open_fabric, resolve
from edgekd.train.loop import Course
from edgekd.train.watch import Watch
from edgekd.workload.normalisation import Normalisation

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here"),
]
AUGMENT = Augment(crop=2, rotate=10, scale=0.1, colour=0.3, cutout=4)


def examples(count: int, device: str) -> Examples:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 10, (count,), generator=generator)
    images = torch.randint(0, 100, (count, 32, 32, 3), generator=generator) + 15 * labels[:, None, None, None]
    return Examples(images.to(torch.uint8).to(device), labels.to(device))


def course(**config: object) -> Course:
    settings = Distill.model_validate({"epochs": 3, "batch": 64, "lr": 0.05, "augment": AUGMENT, **config})
    data = examples(512, "cuda")
    return Course("distill", data, data, Normalisation(), settings, keep_best=False)


def test_training_on_a_gpu_learns_through_the_fused_optimizer(tmp_path: Path) -> None:
    place = resolve(Compute(device="cuda"))
    outcome = loop.fit(resnet20(), CrossEntropy(0.0), course(ema=0.9, clip=1.0), open_fabric(place), tmp_path, Run())
    assert outcome.losses[-1] < outcome.losses[0]
    assert outcome.accuracies[-1] > 0.5


def test_a_step_never_waits_for_the_device() -> None:
    place = resolve(Compute(device="cuda"))
    fabric = open_fabric(place)
    ask = frozen(Network(resnet20(), Plan(model="m:f")), fabric, place)
    plan = course(ema=0.9)
    criterion = UnderTeacher(Distill(), lambda batch: ask(batch.pixels), None)
    module: nn.Module = resnet20()
    trainer = loop._trainer(module, criterion, plan, fabric, State())
    watch = Watch("distill", plan.config, 0, plan.steps, None, fabric.device)
    given = batches.epoch(plan.train, plan.config, 0)
    loop._step(trainer, next(given), 0, None, watch)  # the first one allocates
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step, batch in enumerate(given, start=1):
            loop._step(trainer, batch, step, None, watch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watch.mean() > 0


def test_augmentation_on_a_gpu_is_that_of_the_cpu() -> None:
    augment = copy.deepcopy(AUGMENT).model_copy(update={"randaugment": RandAugment()})
    found = []
    for device in ("cpu", "cuda"):
        data = examples(64, device)
        table = draws.of_view(0, 1, 64, torch.device(device))
        indices = torch.arange(64)
        found.append(batches.seen(data, indices, indices.to(device), table, 1, augment).pixels.cpu().int())
    # Bilinear sums may round the other way: hardly any pixel, and one level at most before RandAugment.
    assert ((found[0] - found[1]).abs() > 1).float().mean() < 0.01
