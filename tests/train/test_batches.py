"""Batches against naive loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgekd.models.pixels import normalise
from edgekd.recipe import Augment, RandAugment, Training
from edgekd.train import batches, draws
from edgekd.train.batches import Examples
from edgekd.workload import arrays
from edgekd.workload.dataset import Split
from edgekd.workload.normalisation import Normalisation

PLAIN = Augment(crop=0, flip=False)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, height: int = 6, width: int = 7, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, height, width, 3), generator=seeded(seed), dtype=torch.uint8)


def numbered(count: int) -> Examples:
    """Image i is filled with i, and has label i."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 4, 4, 3).contiguous()
    return Examples(images, torch.arange(count))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 12), batch=st.integers(2, 5), number=st.integers(0, 50), seed=st.integers(0, 9))
def test_epoch_takes_no_image_twice_and_keeps_labels_with_images(
    count: int, batch: int, number: int, seed: int
) -> None:
    config = Training(batch=batch, augment=PLAIN, seed=seed)
    labels = []
    for found in batches.epoch(numbered(count), config, number):
        assert found.pixels[:, 0, 0, 0].tolist() == found.labels.tolist() == found.indices.tolist()
        labels += found.labels.tolist()
    assert len(labels) == len(set(labels)) == (count // batch * batch if count >= batch else count)


def test_epoch_is_a_permutation_in_full_batches() -> None:
    found = [batch.labels for batch in batches.epoch(numbered(12), Training(batch=4), 0)]
    assert [len(labels) for labels in found] == [4, 4, 4]
    assert sorted(torch.cat(found).tolist()) == list(range(12))


def orders(seed: int, number: int) -> list[list[int]]:
    config = Training(batch=8, seed=seed)
    return [batch.labels.tolist() for batch in batches.epoch(numbered(32), config, number)]


def test_seed_and_epoch_number_decide_the_order() -> None:
    assert orders(0, 3) == orders(0, 3)
    assert orders(0, 3) != orders(0, 4)
    assert orders(0, 3) != orders(1, 3)


def test_pixels_are_channels_last() -> None:
    pixels = next(batches.epoch(numbered(8), Training(batch=4), 0)).pixels
    assert pixels.shape == (4, 3, 4, 4)
    assert pixels.dtype == torch.uint8
    assert pixels.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("count", "batch", "steps"), [(100, 32, 3), (96, 32, 3), (5, 32, 1)])
def test_steps_per_epoch(count: int, batch: int, steps: int) -> None:
    assert batches.steps_per_epoch(count, batch) == steps


def test_normalise_is_the_float64_formula_within_float32() -> None:
    normalisation = Normalisation(mean=(125.307, 122.961, 113.8575), std=(51.5865, 50.847, 51.255))
    pixels = pictures(4).permute(0, 3, 1, 2)
    mean = np.array(normalisation.mean).reshape(1, 3, 1, 1)
    std = np.array(normalisation.std).reshape(1, 3, 1, 1)
    wanted = (pixels.numpy().astype(np.float64) - mean) / std
    found = normalise(pixels, normalisation)
    assert found.dtype == torch.float32
    assert np.abs(found.numpy() - wanted).max() < 1e-6
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_read_gives_what_was_prepared(tmp_path: Path) -> None:
    arrays.save(Split(pictures(3).numpy(), np.array([2, 0, 1])), tmp_path / "split")
    examples = batches.read(tmp_path / "split", torch.device("cpu"))
    assert len(examples) == 3
    assert torch.equal(examples.images, pictures(3))
    assert examples.labels.tolist() == [2, 0, 1]


def views_seen(views: int, epochs: int, config: Training) -> list[dict[int, bytes]]:
    """Return what each epoch showed of each image."""
    examples = Examples(pictures(12), torch.arange(12))
    seen = []
    for number in range(epochs):
        shown = batches.epoch(examples, config, number, views)
        seen.append(
            {int(i): p.numpy().tobytes() for batch in shown for i, p in zip(batch.indices, batch.pixels, strict=True)}
        )
    return seen


def test_epoch_e_shows_view_e_modulo_views_in_another_order() -> None:
    config = Training(batch=4, augment=Augment(crop=2, rotate=10, colour=0.3))
    seen = views_seen(3, 7, config)
    assert seen[0] == seen[3] == seen[6]
    assert seen[1] == seen[4]
    assert seen[0] != seen[1] != seen[2]
    assert list(seen[0]) != list(seen[3])


def test_without_views_each_epoch_shows_a_new_one() -> None:
    seen = views_seen(0, 4, Training(batch=4, augment=Augment(crop=2)))
    assert all(one != other for i, one in enumerate(seen) for other in seen[:i])


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(2, 12), seed=st.integers(0, 5), view=st.integers(0, 9))
def test_an_image_looks_the_same_in_whatever_batch_it_comes(batch: int, seed: int, view: int) -> None:
    augment = Augment(crop=2, rotate=15, scale=0.2, colour=0.4, cutout=3, randaugment=RandAugment())
    examples = Examples(pictures(12), torch.arange(12))
    table = draws.of_view(seed, view, 12)
    whole = batches.seen(examples, torch.arange(12), torch.arange(12), table, view, augment).pixels
    config = Training(batch=batch, seed=seed, augment=augment)
    for found in batches.epoch(examples, config, view):
        assert torch.equal(found.pixels, whole[found.indices])


def test_mixed_batches_carry_both_labels() -> None:
    config = Training(batch=6, augment=Augment(crop=0, flip=False, mixup=1.0))
    found = next(batches.epoch(numbered(6), config, 0))
    assert found.others is not None and found.share is not None
    wanted = found.share * found.labels + (1 - found.share) * found.others
    assert torch.allclose(found.pixels[:, 0, 0, 0].float(), wanted, atol=0.51)
    assert sorted(found.others.tolist()) == list(range(6))


def test_a_batch_moves_with_all_that_it_has() -> None:
    config = Training(batch=4, augment=Augment(cutmix=1.0))
    moved = next(batches.epoch(numbered(8), config, 0)).on(torch.device("meta"))
    assert moved.others is not None and moved.share is not None
    assert {t.device.type for t in (moved.pixels, moved.labels, moved.others, moved.share)} == {"meta"}
    assert moved.indices.device.type == "cpu"
