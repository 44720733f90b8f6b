"""Batches against naive loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgekd.models.pixels import normalise
from edgekd.recipe import Training
from edgekd.train import batches
from edgekd.train.batches import Examples, augment
from edgekd.workload import arrays
from edgekd.workload.dataset import Split
from edgekd.workload.normalisation import Normalisation


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, height: int = 6, width: int = 7, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, height, width, 3), generator=seeded(seed), dtype=torch.uint8)


def numbered(count: int) -> Examples:
    """Image i is filled with i, and has label i."""
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 4, 4, 3).contiguous()
    return Examples(images, torch.arange(count))


def naive(image: np.ndarray, up: int, left: int, mirrored: bool) -> np.ndarray:
    """Shift by pixels, black coming in, then mirror; pixel by pixel."""
    height, width, _ = image.shape
    result = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = row + up, column + left
            if 0 <= y < height and 0 <= x < width:
                result[row, width - 1 - column if mirrored else column] = image[y, x]
    return result


def test_no_crop_and_no_flip_is_identity() -> None:
    images = pictures(9)
    assert torch.equal(augment(images, 0, False, seeded()), images)


@pytest.mark.parametrize(("crop", "flip"), [(2, False), (0, True), (3, True)])
def test_each_image_is_one_shift_and_perhaps_mirror_of_itself(crop: int, flip: bool) -> None:
    images = pictures(24)
    changed = augment(images, crop, flip, seeded()).numpy()
    shifts = range(-crop, crop + 1)
    seen = set()
    for before, after in zip(images.numpy(), changed, strict=True):
        fits = [
            (up, left, mirrored)
            for up in shifts
            for left in shifts
            for mirrored in ((False, True) if flip else (False,))
            if np.array_equal(naive(before, up, left, mirrored), after)
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) > (1 if crop == 0 else 8)


def test_half_of_the_images_are_mirrored() -> None:
    images = pictures(2000, 1, 4)
    mirrored = (augment(images, 0, True, seeded()) != images).flatten(1).any(1).sum().item()
    assert 900 < mirrored < 1100


def test_all_shifts_are_equally_likely() -> None:
    image = torch.zeros(5000, 5, 5, 3, dtype=torch.uint8)
    image[:, 2, 2] = 255
    moved = augment(image, 2, False, seeded())[..., 0].bool().sum(0)
    assert moved.sum() == 5000
    assert moved.min() > 140 and moved.max() < 260


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 12), batch=st.integers(2, 5), number=st.integers(0, 50), seed=st.integers(0, 9))
def test_epoch_takes_no_image_twice_and_keeps_labels_with_images(
    count: int, batch: int, number: int, seed: int
) -> None:
    config = Training(batch=batch, crop=0, flip=False, seed=seed)
    labels = []
    for pixels, chosen in batches.epoch(numbered(count), config, number):
        assert pixels[:, 0, 0, 0].tolist() == chosen.tolist()
        labels += chosen.tolist()
    assert len(labels) == len(set(labels)) == (count // batch * batch if count >= batch else count)


def test_epoch_is_a_permutation_in_full_batches() -> None:
    found = [labels for _, labels in batches.epoch(numbered(12), Training(batch=4, crop=0), 0)]
    assert [len(labels) for labels in found] == [4, 4, 4]
    assert sorted(torch.cat(found).tolist()) == list(range(12))


def orders(seed: int, number: int) -> list[list[int]]:
    config = Training(batch=8, seed=seed)
    return [labels.tolist() for _, labels in batches.epoch(numbered(32), config, number)]


def test_seed_and_epoch_number_decide_the_order() -> None:
    assert orders(0, 3) == orders(0, 3)
    assert orders(0, 3) != orders(0, 4)
    assert orders(0, 3) != orders(1, 3)


def test_pixels_are_channels_last() -> None:
    pixels, _ = next(batches.epoch(numbered(8), Training(batch=4), 0))
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
