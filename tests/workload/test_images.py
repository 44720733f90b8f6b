"""From a file to pixels by one rule, whatever the file's mode."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgekd.workload.images import UnreadableImageError, read, to_pixels

RED, BLUE = (255, 0, 0), (0, 0, 255)


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_an_image_of_the_asked_size_keeps_its_pixels(tmp_path: Path) -> None:
    pixels = gradient(6, 4)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png", (6, 4))
    assert (found.dtype, found.shape) == (np.uint8, (6, 4, 3))
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (20, 30)])
def test_another_size_is_what_pillow_makes_of_it(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = Image.fromarray(gradient(12, 10))
    image.save(tmp_path / "a.png")
    expected = np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
    assert np.array_equal(read(tmp_path / "a.png", shape), expected)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, turn: object) -> None:
    pixels = gradient(2, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    expected = turn(pixels)  # type: ignore[operator]
    assert np.array_equal(read(tmp_path / "a.png", expected.shape[:2]), expected)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    grey = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png", (1, 4))[0].tolist() == [[0] * 3, [1] * 3, [128] * 3, [255] * 3]


@pytest.mark.parametrize(
    ("values", "found"), [([0.0, 100.0, 255.0], [0, 100, 255]), ([0.0, 65535.0, 257.0], [0, 255, 1])]
)
def test_float_grey_is_taken_as_eight_or_sixteen_bit_by_its_range(values: list[float], found: list[int]) -> None:
    pixels = to_pixels(Image.fromarray(np.array([values], np.float32)), (1, 3))
    assert pixels[0, :, 0].tolist() == found


def test_grey_becomes_three_equal_channels() -> None:
    assert to_pixels(Image.new("L", (1, 1), 77), (1, 1)).tolist() == [[[77, 77, 77]]]


def test_alpha_is_dropped_and_colours_stay() -> None:
    assert to_pixels(Image.new("RGBA", (1, 1), (10, 20, 30, 0)), (1, 1)).tolist() == [[[10, 20, 30]]]
    assert to_pixels(Image.new("LA", (1, 1), (40, 0)), (1, 1)).tolist() == [[[40, 40, 40]]]


def test_a_palette_is_looked_up_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putdata([0, 1])
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=b"\x00\x80")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("plain.png", "clear.png"):
            assert read(tmp_path / name, (1, 2)).tolist() == [[list(RED), list(BLUE)]]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (1, 1), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif", (1, 1)).tolist() == [[list(RED)]]


def test_one_bit_becomes_black_and_white() -> None:
    image = Image.fromarray(np.array([[True, False]]))
    assert to_pixels(image, (1, 2)).tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UnreadableImageError):
        read(tmp_path / "a.png", (4, 4))


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_a_file_cut_in_half_is_unreadable(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"a.{kind}"
    Image.fromarray(gradient(40, 40)).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UnreadableImageError):
        read(file, (4, 4))


def test_an_image_too_large_to_be_meant_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.new("L", (10, 10)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError):
        read(tmp_path / "a.png", (4, 4))
