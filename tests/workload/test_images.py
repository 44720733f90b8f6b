"""From a file to pixels by one rule, whatever the file's mode."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, features
from torchvision import transforms

from edgekd.workload.images import SUFFIXES, Framing, Resize, UnreadableImageError, is_image, read, size_of, to_pixels

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


def rows_of(height: int, width: int) -> Image.Image:
    """Top half red, bottom half blue."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2], pixels[height // 2 :] = RED, BLUE
    return Image.fromarray(pixels)


def test_a_letterbox_keeps_the_proportions_on_grey_in_the_middle() -> None:
    found = to_pixels(rows_of(20, 10), (40, 40), Framing("letterbox"))
    assert found.shape == (40, 40, 3)
    assert np.unique(found[:, :10]).tolist() == np.unique(found[:, 30:]).tolist() == [114]
    inside = found[:, 10:30]
    assert np.array_equal(inside, np.asarray(rows_of(20, 10).resize((20, 40), Image.Resampling.BILINEAR)))


def test_a_letterbox_of_odd_rest_is_as_opencvs_callers_make_it() -> None:
    """17×10 into 12×12: scaled by 12/17 to 12×7, two columns before and three behind, as `(12 - 7) // 2`."""
    found = to_pixels(rows_of(17, 10), (12, 12), Framing("letterbox"))
    grey = (found == 114).all(axis=(0, 2))
    assert grey.tolist() == [True] * 2 + [False] * 7 + [True] * 3


@pytest.mark.parametrize("shape", [(12, 30), (31, 12), (13, 29), (50, 50)])
def test_a_crop_is_what_torchvision_makes_of_it(shape: tuple[int, int]) -> None:
    image = Image.fromarray(gradient(*shape))
    steps = transforms.Compose([transforms.Resize(6), transforms.CenterCrop(6)])
    assert np.array_equal(to_pixels(image, (6, 6), Framing("crop")), np.asarray(steps(image)))


@pytest.mark.parametrize("resize", ["letterbox", "crop", "stretch"])
@pytest.mark.parametrize("shape", [(7, 7), (3, 11), (11, 3)])
def test_every_rule_gives_the_size(resize: Resize, shape: tuple[int, int]) -> None:
    for given in ((1, 50), (50, 1), (7, 13), shape):
        assert to_pixels(Image.new("RGB", given), shape, Framing(resize)).shape == (*shape, 3)


def test_bgr_is_rgb_backwards_and_grey_is_itus_luma() -> None:
    pixels = gradient(5, 4)
    image = Image.fromarray(pixels)
    assert np.array_equal(to_pixels(image, (5, 4), Framing(colour="bgr")), pixels[:, :, ::-1])
    grey = to_pixels(image, (5, 4), Framing(colour="grey"))
    luma = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    assert grey.shape == (5, 4, 1)
    assert np.abs(grey[:, :, 0] - luma).max() <= 0.51


def test_a_grey_image_stays_what_it_is() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = to_pixels(Image.fromarray(values), (16, 16), Framing(colour="grey"))
    assert np.array_equal(found[:, :, 0], values)


def test_the_size_of_an_image_is_as_it_is_looked_at(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient(2, 3)).save(tmp_path / "a.png", exif=exif)
    assert size_of(tmp_path / "a.png") == (3, 2)
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImageError):
        size_of(tmp_path / "b.png")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 moveto showpage\n%%EOF\n"


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `gs` that comes first on PATH; return the file that it writes when it runs."""
    ran, program = tmp_path / "ran", tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ntouch "{ran}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # forget an earlier search
    return ran


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.eps"])
def test_an_image_is_never_handed_to_ghostscript(tmp_path: Path, ghostscript: Path, name: str) -> None:
    (tmp_path / name).write_bytes(POSTSCRIPT)
    with pytest.raises(Exception), Image.open(tmp_path / name) as opened:  # noqa: B017 - what Pillow raises is its own
        opened.load()
    assert ghostscript.exists(), "Pillow by itself runs it"
    ghostscript.unlink()
    for look in (size_of, lambda file: read(file, (4, 4))):
        with pytest.raises(UnreadableImageError):
            look(tmp_path / name)
    assert not ghostscript.exists()


def test_every_name_of_an_image_is_one_of_a_format_that_pillow_decodes_itself() -> None:
    Image.init()
    formats = {Image.registered_extensions()[suffix] for suffix in SUFFIXES - {".avif"}}
    assert formats == {"PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "JPEG2000", "PPM"}
    assert is_image(Path("A.JPEG"))
    assert not any(is_image(Path(name)) for name in ("notes.txt", "Thumbs.db", "png", "a.png.txt", "a.eps"))


@pytest.mark.parametrize("suffix", sorted(SUFFIXES - {".avif", ".apng", ".pfm"}))
def test_a_file_of_every_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    mode = {".pgm": "L", ".pbm": "1"}.get(suffix, "RGB")
    image = Image.fromarray(np.full((6, 4, 3), 255, np.uint8)).convert(mode)
    image.save(tmp_path / f"a{suffix}")
    assert np.abs(read(tmp_path / f"a{suffix}", (6, 4)).astype(int) - 255).max() <= 2


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_a_damaged_avif_is_unreadable_though_its_decoder_raises_runtime_error(tmp_path: Path) -> None:
    held = io.BytesIO()
    Image.fromarray(gradient(16, 16)).save(held, "AVIF")
    generator, seen = np.random.default_rng(0), set()
    for _ in range(60):
        content = bytearray(held.getvalue())
        for at in generator.integers(len(content) // 3, len(content), 4):
            content[at] ^= int(generator.integers(1, 256))
        (tmp_path / "a.avif").write_bytes(content)
        try:
            with Image.open(tmp_path / "a.avif") as opened:
                opened.load()
        except Exception as error:
            seen.add(type(error))
            with pytest.raises(UnreadableImageError):
                read(tmp_path / "a.avif", (4, 4))
    assert RuntimeError in seen


def test_missing_values_are_black_without_a_warning() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 65535.0]], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = to_pixels(Image.fromarray(values), (1, 4))
    assert pixels[0, :, 0].tolist() == [0, 255, 0, 255]


def test_an_image_too_long_to_be_cropped_is_unreadable(tmp_path: Path) -> None:
    """1×60000 scaled to a width of 224 would be 9 GB."""
    Image.new("L", (1, 60000)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match="60000×1 pixels: too long and thin to be cropped"):
        read(tmp_path / "a.png", (224, 224), Framing("crop"))
    assert read(tmp_path / "a.png", (224, 224)).shape == (224, 224, 3)
