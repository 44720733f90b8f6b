"""Mixed images are what their shares say, pixel by pixel."""

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekd.recipe import Augment
from edgekd.train.mix import mix


def pictures(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 12, 10, 3), generator=generator, dtype=torch.uint8)


def test_mixup_blends_by_the_share() -> None:
    images = pictures(8)
    mixed = mix(images, Augment(mixup=1.0), 0, 5)
    for index in range(8):
        share, partner = float(mixed.share[index]), images[mixed.partner[index]].numpy().astype(np.float64)
        wanted = share * images[index].numpy() + (1 - share) * partner
        assert np.abs(mixed.images[index].numpy() - wanted).max() <= 0.501


def test_cutmix_takes_a_box_of_the_partner_whose_area_is_the_rest_of_the_share() -> None:
    images = pictures(64)
    mixed = mix(images, Augment(cutmix=1.0), 0, 5)
    boxes = 0
    for index in range(64):
        if mixed.partner[index] == index:
            continue
        foreign = (mixed.images[index] != images[index]).any(2)
        same_as_partner = (mixed.images[index] == images[mixed.partner[index]]).all(2)
        assert same_as_partner[foreign].all()
        rows, columns = foreign.any(1).nonzero().flatten(), foreign.any(0).nonzero().flatten()
        if len(rows):
            box = foreign[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert box.all()
            boxes += 1
        assert abs(1 - foreign.float().mean().item() - mixed.share[index].item()) < 1e-6
    assert boxes > 40


def test_cutmix_shares_are_on_average_what_beta_gives_less_the_cut_off_borders() -> None:
    share = torch.cat([mix(pictures(64), Augment(cutmix=1.0), 0, step).share for step in range(40)])
    # Without borders the box is half of the image on average; cut off, each side of it loses up to a quarter.
    area = (1 - np.random.default_rng(0).beta(1, 1, 100_000)) ** 0.5
    wanted = 1 - float(((area - area**2 / 4) ** 2).mean())
    assert share.mean().item() == pytest.approx(wanted, abs=0.01)
    assert share.min() < 0.1 and share.max() > 0.98


def test_seed_and_step_decide_and_both_kinds_come_by_turns() -> None:
    images, both = pictures(8), Augment(mixup=1.0, cutmix=1.0)
    assert torch.equal(mix(images, both, 1, 2).images, mix(images, both, 1, 2).images)
    assert not torch.equal(mix(images, both, 1, 2).images, mix(images, both, 1, 3).images)
    changed = [(mix(images, both, 0, step).images[0] != images[0]).all(2).float().mean().item() for step in range(40)]
    assert 5 < sum(part > 0.9 for part in changed) < 35
