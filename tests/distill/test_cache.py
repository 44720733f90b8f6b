"""Training from cached logits sees the numbers that a live teacher would give."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekd.distill import cache
from edgekd.distill.teacher import frozen
from edgekd.errors import ModelError
from edgekd.models.cifar_resnet import resnet20
from edgekd.models.network import Network, Plan
from edgekd.recipe import Augment, RandAugment, Training
from edgekd.run import Progress, Run
from edgekd.train import batches
from edgekd.train.batches import Batch, Examples
from edgekd.train.device import Place, open_fabric

AUGMENT = Augment(crop=2, rotate=10, scale=0.1, colour=0.3, cutout=4, randaugment=RandAugment())


def place(precision: str) -> Place:
    return Place(device="cpu", precision=precision, threads=torch.get_num_threads(), strategy="auto", capability="any")


def examples(count: int) -> Examples:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 16, 16, 3), generator=generator, dtype=torch.uint8)
    return Examples(images, torch.randint(0, 10, (count,), generator=generator))


def half_steps(one: Tensor, other: Tensor) -> Tensor:
    """How many float16 lie between two values."""

    def order(values: Tensor) -> Tensor:
        bits = values.half().view(torch.int16).int()
        return torch.where(bits < 0, -32768 - bits, bits)

    return (order(one) - order(other)).abs()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_cached_and_live_training_see_the_same_numbers(tmp_path: Path, precision: str) -> None:
    """Seven epochs over three views, shuffled, with every augmentation: within one step of float16."""
    torch.manual_seed(0)
    fabric = open_fabric(place(precision))
    teach = frozen(Network(resnet20(), Plan(model="m:f")), fabric, place(precision))
    data = examples(53)
    config = Training(batch=16, seed=4, augment=AUGMENT)
    cache.write(tmp_path / "logits", lambda batch: teach(batch.pixels), data, AUGMENT, 4, 16, 3, 0, Run())
    cached = cache.read(tmp_path / "logits", torch.device("cpu"))
    compared = 0
    for number in range(7):
        for batch in batches.epoch(data, config, number, views=3):
            live = teach(batch.pixels)
            assert half_steps(cached(batch), live).max() <= 1
            compared += live.numel()
    assert compared == 7 * 48 * 10


def test_views_differ_and_are_float16(tmp_path: Path) -> None:
    cache.write(tmp_path / "logits", brightness, examples(5), AUGMENT, 0, 4, 2, 0, Run())
    views = [np.load(tmp_path / "logits" / f"view-00{view}.npy") for view in (0, 1)]
    assert [view.dtype for view in views] == [np.float16, np.float16]
    assert views[0].shape == (5, 6)
    assert not np.array_equal(views[0], views[1])


def brightness(batch: Batch) -> Tensor:
    """A teacher of 6 classes, whose logits spread over the image's halves."""
    values = batch.pixels.float().mean((2, 3))
    return torch.cat((values, -values / 2), dim=1) / 40


def test_the_largest_logits_come_back_and_the_rest_keeps_its_total_probability(tmp_path: Path) -> None:
    data, config = examples(9), Training(batch=3, augment=AUGMENT)
    cache.write(tmp_path / "all", brightness, data, AUGMENT, 0, 3, 1, 0, Run())
    cache.write(tmp_path / "top", brightness, data, AUGMENT, 0, 3, 1, 2, Run())
    whole, top = (cache.read(tmp_path / name, torch.device("cpu")) for name in ("all", "top"))
    for batch in batches.epoch(data, config, 0, views=1):
        wanted, found = whole(batch).double(), top(batch).double()
        largest = wanted.topk(2, dim=1).indices
        assert torch.equal(found.gather(1, largest), wanted.gather(1, largest))
        assert torch.allclose(found.softmax(1).gather(1, largest), wanted.softmax(1).gather(1, largest), atol=2e-4)
        assert all(len(row.unique()) == 3 for row in found)


def test_killed_filling_goes_on_with_the_next_view(tmp_path: Path) -> None:
    def killed(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    calls = 0

    def counting(batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        return brightness(batch)

    data = examples(4)
    with pytest.raises(KeyboardInterrupt):
        cache.write(tmp_path / "killed", counting, data, AUGMENT, 0, 4, 3, 0, Run(show=killed))
    assert calls == 2
    cache.write(tmp_path / "killed", counting, data, AUGMENT, 0, 4, 3, 0, Run())
    cache.write(tmp_path / "whole", brightness, data, AUGMENT, 0, 4, 3, 0, Run())
    assert calls == 4  # the third view, and one image for the class count
    for file in (tmp_path / "whole").iterdir():
        assert (tmp_path / "killed" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_logits_that_no_float16_holds_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ModelError, match="float16"):
        cache.write(
            tmp_path / "l",
            lambda batch: torch.full((len(batch.labels), 3), value),
            examples(4),
            AUGMENT,
            0,
            4,
            1,
            0,
            Run(),
        )
    assert not list((tmp_path / "l").glob("view-*"))
