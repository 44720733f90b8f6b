"""From an image file to uint8 pixels: by one rule in a build, stated in the manifest; else as a graph was trained."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

RESIZE_RULE = (
    "EXIF orientation applied; 16-bit scaled to 8 bit; converted to RGB (Pillow); "
    "resized by bilinear interpolation with antialias (Pillow BILINEAR), stretched to the input size"
)
Resize = Literal["stretch", "letterbox", "crop"]
Colour = Literal["rgb", "bgr", "grey"]
_GREY = 114
"""Of the border of a letterbox: what YOLO's own pre-processing takes."""


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

# What Pillow's decoders were seen to raise for damaged files.
_BROKEN: tuple[type[Exception], ...] = (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError)
_BROKEN += (struct.error, Image.DecompressionBombError)


class UnreadableImageError(Exception):
    """A file that Pillow cannot decode."""


def read(file: Path, shape: tuple[int, int], framing: Framing = PLAIN) -> NDArray[np.uint8]:
    """Return an image as uint8 [height, width, channels]. Raises UnreadableImageError."""
    try:
        with Image.open(file) as opened:
            return to_pixels(ImageOps.exif_transpose(opened), shape, framing)
    except _BROKEN as error:
        raise UnreadableImageError(str(error)) from error


def size_of(file: Path) -> tuple[int, int]:
    """Return height and width of an image as it is looked at. Raises UnreadableImageError."""
    try:
        with Image.open(file) as opened:
            width, height = ImageOps.exif_transpose(opened).size
    except _BROKEN as error:
        raise UnreadableImageError(str(error)) from error
    return height, width


def to_pixels(image: Image.Image, shape: tuple[int, int], framing: Framing = PLAIN) -> NDArray[np.uint8]:
    """Return a Pillow image as uint8 [height, width, channels], its colours in the order that is fed."""
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow's own conversion clips 16-bit values at 255 instead of scaling them.
        values = np.asarray(image, dtype=np.float64)
        top = 255.0 if image.mode == "F" and values.max(initial=0.0) <= 255 else 65535.0
        image = Image.fromarray(np.clip(np.rint(values * (255.0 / top)), 0, 255).astype(np.uint8))
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
        scaled = _scaled(image, max(width, int(image.width * ratio)), max(height, int(image.height * ratio)))
        left, top = round((scaled.width - width) / 2), round((scaled.height - height) / 2)
        return scaled.crop((left, top, left + width, top + height))
    ratio = min(width / image.width, height / image.height)
    scaled = _scaled(image, max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    framed = Image.new("RGB", (width, height), (_GREY, _GREY, _GREY))
    framed.paste(scaled, ((width - scaled.width) // 2, (height - scaled.height) // 2))
    return framed


def _scaled(image: Image.Image, width: int, height: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BILINEAR)
