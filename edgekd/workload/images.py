"""From an image file to uint8 RGB pixels: one rule, stated in the manifest."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

RESIZE_RULE = (
    "EXIF orientation applied; 16-bit scaled to 8 bit; converted to RGB (Pillow); "
    "resized by bilinear interpolation with antialias (Pillow BILINEAR), stretched to the input size"
)


# What Pillow's decoders were seen to raise for damaged files.
_BROKEN: tuple[type[Exception], ...] = (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError)
_BROKEN += (struct.error, Image.DecompressionBombError)


class UnreadableImageError(Exception):
    """A file that Pillow cannot decode."""


def read(file: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an image as uint8 [height, width, 3], RGB. Raises UnreadableImageError."""
    try:
        with Image.open(file) as opened:
            return to_pixels(ImageOps.exif_transpose(opened), shape)
    except _BROKEN as error:
        raise UnreadableImageError(str(error)) from error


def to_pixels(image: Image.Image, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a Pillow image as uint8 [height, width, 3] by the one rule."""
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow's own conversion clips 16-bit values at 255 instead of scaling them.
        values = np.asarray(image, dtype=np.float64)
        top = 255.0 if image.mode == "F" and values.max(initial=0.0) <= 255 else 65535.0
        image = Image.fromarray(np.clip(np.rint(values * (255.0 / top)), 0, 255).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        # Pillow warns about a palette with transparency unless it goes by way of RGBA.
        image = image.convert("RGBA")
    rgb = image.convert("RGB")
    height, width = shape
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(rgb, dtype=np.uint8)
