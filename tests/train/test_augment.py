"""Augmentation of a batch, against each image alone: naive loops, and torchvision's own operations."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from edgekd.recipe import Augment
from edgekd.train import draws
from edgekd.train.augment import augment
from edgekd.train.draws import Draw, Draws


def pictures(count: int, height: int = 6, width: int = 7, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)


def smooth(count: int, height: int, width: int) -> Tensor:
    """Pictures without steps, on which one way of interpolating is as good as another."""
    coarse = pictures(count, 3, 3, seed=5).permute(0, 3, 1, 2).float()
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return fine.clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8).contiguous()


def only(**config: Any) -> Augment:
    return Augment(**{"crop": 0, "flip": False, **config})


def shifted(images: Tensor, crop: int, flip: bool) -> Tensor:
    return augment(images, draws.of_view(0, 0, len(images)), Augment(crop=crop, flip=flip))


def table(count: int, **values: float) -> Draws:
    """Draws of which the named columns are given, by their lower-case names."""
    found = np.full((count, 24), 0.5, dtype=np.float32)
    for name, value in values.items():
        found[:, Draw[name.upper()]] = value
    return Draws(found, torch.from_numpy(found))


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
    assert torch.equal(shifted(images, 0, False), images)


@pytest.mark.parametrize(("crop", "flip"), [(2, False), (0, True), (3, True)])
def test_each_image_is_one_shift_and_perhaps_mirror_of_itself(crop: int, flip: bool) -> None:
    images = pictures(24)
    changed = shifted(images, crop, flip).numpy()
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
    mirrored = (shifted(images, 0, True) != images).flatten(1).any(1).sum().item()
    assert 900 < mirrored < 1100


def test_all_shifts_are_equally_likely() -> None:
    image = torch.zeros(5000, 5, 5, 3, dtype=torch.uint8)
    image[:, 2, 2] = 255
    moved = shifted(image, 2, False)[..., 0].bool().sum(0)
    assert moved.sum() == 5000
    assert moved.min() > 140 and moved.max() < 260


def test_rotation_is_the_naive_bilinear_loop() -> None:
    """Turned by 30 degrees about the middle of a picture that is not square."""
    image = pictures(1, 7, 10)[0].numpy().astype(np.float64)
    found = augment(pictures(1, 7, 10), table(1, angle=1.0), only(rotate=30.0))[0].numpy()
    height, width, _ = image.shape
    cosine, sine = math.cos(math.radians(30)), math.sin(math.radians(30))
    for row in range(height):
        for column in range(width):
            x, y = column - (width - 1) / 2, row - (height - 1) / 2
            from_x, from_y = cosine * x - sine * y + (width - 1) / 2, sine * x + cosine * y + (height - 1) / 2
            left, top = math.floor(from_x), math.floor(from_y)
            wanted = np.zeros(3)
            for v, u in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                if 0 <= v < height and 0 <= u < width:
                    wanted += image[v, u] * (1 - abs(from_x - u)) * (1 - abs(from_y - v))
            assert np.abs(found[row, column] - wanted).max() <= 0.51


@pytest.mark.parametrize(("draw", "factor"), [(1.0, 1.25), (0.0, 0.75), (0.5, 1.0)])
def test_scale_zooms_about_the_middle(draw: float, factor: float) -> None:
    image = smooth(1, 24, 24)
    found = augment(image, table(1, zoom=draw), only(scale=0.25))[0]
    reference = V.affine(
        image[0].permute(2, 0, 1), 0.0, [0, 0], factor, [0.0, 0.0], V.InterpolationMode.BILINEAR
    ).permute(1, 2, 0)
    assert (found[2:-2, 2:-2].int() - reference[2:-2, 2:-2].int()).abs().max() <= 1


def test_rotation_turns_either_way_by_at_most_the_angle() -> None:
    image = smooth(1, 32, 32)
    for draw, angle in ((0.0, 20.0), (1.0, -20.0), (0.75, -10.0)):
        found = augment(image, table(1, angle=draw), only(rotate=20.0))[0]
        reference = V.rotate(image[0].permute(2, 0, 1), -angle, V.InterpolationMode.BILINEAR).permute(1, 2, 0)
        turned_back = V.rotate(image[0].permute(2, 0, 1), angle, V.InterpolationMode.BILINEAR).permute(1, 2, 0)
        errors = [(found[8:-8, 8:-8].int() - other[8:-8, 8:-8].int()).abs().max() for other in (reference, turned_back)]
        assert min(errors) <= 2 < max(errors)


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("what", ["brightness", "contrast", "saturation"])
def test_colour_is_torchvisions_operation(what: str, factor: float) -> None:
    image = pictures(1, 8, 9)
    found = augment(image, table(1, **{what: (factor - 0.6) / 0.8}), only(colour=0.4))[0]
    operation = {
        "brightness": V.adjust_brightness, "contrast": V.adjust_contrast, "saturation": V.adjust_saturation
    }[what]  # fmt: skip
    wanted = operation(image[0].permute(2, 0, 1), factor).permute(1, 2, 0)
    assert (found.int() - wanted.int()).abs().max() <= 1


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 5), (7, 9)])
def test_cutout_is_a_grey_square_cut_at_the_border(row: int, column: int) -> None:
    image = torch.zeros(1, 8, 10, 3, dtype=torch.uint8)
    found = augment(image, table(1, cutout_row=(row + 0.5) / 8, cutout_column=(column + 0.5) / 10), only(cutout=4))[0]
    wanted = torch.zeros(8, 10, 3, dtype=torch.uint8)
    wanted[max(0, row - 2) : row + 2, max(0, column - 2) : column + 2] = 128
    assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    "config", [only(rotate=30.0), only(scale=0.3), only(colour=0.5), only(cutout=3), only(crop=2), only(flip=True)]
)
def test_what_is_switched_on_alone_changes_images_and_keeps_shape_and_type(config: Augment) -> None:
    images = pictures(16, 9, 11)
    found = augment(images, draws.of_view(1, 2, 16), config)
    assert found.shape == images.shape
    assert found.dtype == torch.uint8
    assert (found != images).flatten(1).any(1).sum() >= 4


def test_switching_one_on_leaves_the_draws_of_another_as_they_are() -> None:
    images = pictures(16, 9, 11)
    found = augment(images, draws.of_view(1, 2, 16), Augment(crop=2, flip=True))
    with_cutout = augment(images, draws.of_view(1, 2, 16), Augment(crop=2, flip=True, cutout=1))
    assert ((found != with_cutout).any(3).flatten(1).sum(1) <= 1).all()
