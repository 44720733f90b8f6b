"""From an image file to uint8 pixels: by one rule in a build, stated in the manifest; else as a graph was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from edgekd.errors import counted, first_line, listed

RESIZE_RULE = (
    "EXIF orientation applied; 16-bit scaled to 8 bit; converted to RGB (Pillow); "
    "resized by bilinear interpolation with antialias (Pillow BILINEAR), stretched to the input size"
)
Resize = Literal["stretch", "letterbox", "crop"]
Colour = Literal["rgb", "bgr", "grey"]
_GREY = 114
"""Of the border of a letterbox: what YOLO's own pre-processing takes."""
_MOST_PIXELS = 2**28
"""Of an image that is scaled to fill: 1×65535, scaled to a width of 224, would have 3·10^9."""


@dataclass(frozen=True)
class Framing:
    """How an image becomes one of the size and the channels that a graph takes."""

    resize: Resize = "stretch"
    """`letterbox`: scaled to fit, centred on grey; `crop`: scaled to fill, its centre taken."""
    colour: Colour = "rgb"

    @property
    def channels(self) -> int:
        """1 for grey, else 3."""
        return 1 if self.colour == "grey" else 3


PLAIN = Framing()

_FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
"""Pillow's names of the formats that are read, and how such files end.

Pillow goes by a file's content, not by its name, and hands some kinds on to other programs (EPS to ghostscript). These
it decodes itself: an image is data, whoever made it.
"""
SUFFIXES = frozenset(suffix for suffixes in _FORMATS.values() for suffix in suffixes)
"""How the names of images end, in lower case."""


class UnreadableImageError(Exception):
    """A file that Pillow cannot decode."""


def is_image(file: Path) -> bool:
    """Whether a file is an image by its name."""
    return file.suffix.lower() in SUFFIXES


def not_images(names: Sequence[str]) -> str:
    """Return the line that says which files are skipped."""
    why = "not an image by its name" if len(names) == 1 else "not images by their names"
    return f"{counted(len(names), 'file')} skipped, {why}: {listed(names)}"


def read(file: Path, shape: tuple[int, int], framing: Framing = PLAIN) -> NDArray[np.uint8]:
    """Return an image as uint8 [height, width, channels]. Raises UnreadableImageError."""
    image = _decoded(file)
    try:
        return to_pixels(image, shape, framing)
    except ValueError as error:
        # Pillow has no way to RGB for every mode.
        raise UnreadableImageError(str(error)) from error


def size_of(file: Path) -> tuple[int, int]:
    """Return height and width of an image as it is looked at. Raises UnreadableImageError."""
    image = _decoded(file)
    return image.height, image.width


def _decoded(file: Path) -> Image.Image:
    """Return an image as it is looked at."""
    try:
        with Image.open(file, formats=_decoders()) as opened:
            return ImageOps.exif_transpose(opened)
    except Exception as error:
        # For damaged files Pillow 13 was seen to raise RuntimeError, struct.error, SyntaxError, OverflowError, …
        raise UnreadableImageError(first_line(error)) from error


@cache
def _decoders() -> tuple[str, ...]:
    """Return the formats that this Pillow decodes: AVIF came with 11.3."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def to_pixels(image: Image.Image, shape: tuple[int, int], framing: Framing = PLAIN) -> NDArray[np.uint8]:
    """Return a Pillow image as uint8 [height, width, channels], its colours in the order that is fed.

    Raises ValueError for a mode that Pillow does not bring to RGB, and for an image that is too long to be cropped.
    """
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow's own conversion clips 16-bit values at 255 instead of scaling them.
        values = np.asarray(image, dtype=np.float64)
        top = 255.0 if image.mode == "F" and values.max(initial=0.0) <= 255 else 65535.0
        # NaN, which marks missing pixels, is black: what a cast makes of it differs between processors.
        scaled = np.nan_to_num(np.clip(np.rint(values * (255.0 / top)), 0, 255))
        image = Image.fromarray(scaled.astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        # Pillow warns about a palette with transparency unless it goes by way of RGBA.
        image = image.convert("RGBA")
    rgb = image.convert("RGB")
    pixels = np.asarray(_framed(rgb, shape, framing.resize), dtype=np.uint8)
    if framing.colour == "grey":
        # Pillow's weights are of ITU-R 601: grey that was spread over three channels comes back as it was.
        return np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.uint8)[:, :, None]
    return np.ascontiguousarray(pixels[:, :, ::-1]) if framing.colour == "bgr" else pixels


def _framed(image: Image.Image, shape: tuple[int, int], resize: Resize) -> Image.Image:
    height, width = shape
    if image.size == (width, height):
        return image
    if resize == "stretch":
        return _scaled(image, width, height)
    if resize == "crop":
        # As torchvision's Resize and CenterCrop: the longer side is cut off to whole pixels, the middle rounds to even.
        ratio = max(width / image.width, height / image.height)
        sides = max(width, int(image.width * ratio)), max(height, int(image.height * ratio))
        if sides[0] * sides[1] > _MOST_PIXELS:
            raise ValueError(f"of {image.height}×{image.width} pixels: too long and thin to be cropped")
        scaled = _scaled(image, *sides)
        left, top = round((scaled.width - width) / 2), round((scaled.height - height) / 2)
        return scaled.crop((left, top, left + width, top + height))
    ratio = min(width / image.width, height / image.height)
    scaled = _scaled(image, max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    framed = Image.new("RGB", (width, height), (_GREY, _GREY, _GREY))
    framed.paste(scaled, ((width - scaled.width) // 2, (height - scaled.height) // 2))
    return framed


def _scaled(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BILINEAR)
