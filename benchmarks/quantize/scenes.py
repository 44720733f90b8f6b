"""Seeded images and spectra for models of others: photographs in mosaics, drawn text, cells, the sound of a motor.

Images are uint8 [N, H, W, 3], RGB. Every second photograph serves calibration, the others what is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

Part = Literal["calibration", "held out"]
Pixels = NDArray[np.uint8]
_SEEDS = {"calibration": 0, "held out": 1}
_TEXT = (
    "the quick brown fox jumps over a lazy dog while seven wizards boxed liquid gyroscopes near Vienna and Prague "
    "invoice total 1024 EUR 17.50 order No. 88-31 date 2024-06-30 page Chapter Section figure TABLE signal noise "
    "network kernel station harbour ticket museum Monday quartz evening library open closed exit platform"
)
_WORDS = _TEXT.split()
_FACES = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "DejaVuSerif-Italic.ttf")


def generator_of(part: Part, name: str) -> np.random.Generator:
    """Return the random numbers of one part of one kind of scene."""
    return np.random.default_rng([_SEEDS[part], *name.encode()])


def mosaics(photos: Path, part: Part, count: int, side: int) -> Pixels:
    """Return crops of photographs, half of them four to an image: mostly faces, flipped, scaled, lit anew."""
    generator = generator_of(part, "mosaics")
    faces, others = (_photographs(photos / kind, part) for kind in ("faces", "others"))
    return np.stack([_mosaic(faces, others, side, generator) for _ in range(count)])


def _photographs(folder: Path, part: Part) -> list[Image.Image]:
    files = sorted(folder.iterdir())[_SEEDS[part] :: 2]
    found = [Image.open(file).convert("RGB") for file in files]
    for image in found:
        image.thumbnail((1200, 1200))
    return found


def _mosaic(
    faces: Sequence[Image.Image], others: Sequence[Image.Image], side: int, generator: np.random.Generator
) -> Pixels:
    cells = 1 if generator.random() < 0.5 else 2
    part = side // cells
    canvas = Image.new("RGB", (side, side))
    for cell in range(cells * cells):
        photos = faces if generator.random() < 0.7 else others
        photo = photos[int(generator.integers(len(photos)))]
        canvas.paste(_crop(photo, part, generator), ((cell % cells) * part, (cell // cells) * part))
    return np.asarray(canvas)


def _crop(photo: Image.Image, side: int, generator: np.random.Generator) -> Image.Image:
    """Return a square of the photograph, of 55 to 100 % of its shorter side; the upper half is likelier."""
    edge = min(photo.size) * generator.uniform(0.55, 1.0)
    left = generator.uniform(0, photo.width - edge)
    top = (photo.height - edge) * generator.uniform(0, 1) ** 2
    image = photo.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + edge, top + edge))
    if generator.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(image).enhance(float(generator.uniform(0.6, 1.3)))


def _font(size: int, generator: np.random.Generator) -> ImageFont.FreeTypeFont:
    name = _FACES[int(generator.integers(len(_FACES)))]
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name), size)


def _colours(generator: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a background and an ink that stand apart, either of which may be the darker one."""
    light, dark = generator.integers(190, 256, 3), generator.integers(0, 90, 3)
    one, other = (light, dark) if generator.random() < 0.8 else (dark, light)
    return tuple(map(int, one)), tuple(map(int, other))


def _phrase(generator: np.random.Generator, words: int) -> str:
    return " ".join(_WORDS[int(at)] for at in generator.integers(len(_WORDS), size=words))


def _noisy(image: Image.Image, generator: np.random.Generator, sigma: float) -> Pixels:
    values = np.asarray(image).astype(np.float64)
    return np.clip(values + generator.normal(0, sigma, values.shape), 0, 255).astype(np.uint8)


def pages(photos: Path, part: Part, count: int, side: int) -> Pixels:
    """Return pages of text lines of many sizes, a third of them on a photograph."""
    generator = generator_of(part, "pages")
    backgrounds = _photographs(photos / "others", part)
    return np.stack([_page(backgrounds, side, generator) for _ in range(count)])


def _page(backgrounds: Sequence[Image.Image], side: int, generator: np.random.Generator) -> Pixels:
    paper, ink = _colours(generator)
    image = Image.new("RGB", (side, side), paper)
    if generator.random() < 1 / 3:
        photo = _crop(backgrounds[int(generator.integers(len(backgrounds)))], side, generator)
        image = Image.blend(image, photo, 0.5)
    draw = ImageDraw.Draw(image)
    top = int(generator.integers(10, 50))
    while top < side - 30:
        size = int(generator.integers(12, 42))
        left = int(generator.integers(5, side // 3))
        draw.text((left, top), _phrase(generator, int(generator.integers(1, 6))), ink, _font(size, generator))
        top += int(size * generator.uniform(1.3, 3.5))
    return _noisy(image, generator, float(generator.uniform(0, 8)))


def text_lines(part: Part, count: int, shape: tuple[int, int], flipped: bool = False) -> Pixels:
    """Return one line of text each; where `flipped`, half of them are upside down."""
    generator = generator_of(part, "lines")
    return np.stack([_line(shape, flipped and bool(generator.random() < 0.5), generator) for _ in range(count)])


def _line(shape: tuple[int, int], upside_down: bool, generator: np.random.Generator) -> Pixels:
    paper, ink = _colours(generator)
    text, font = _phrase(generator, int(generator.integers(1, 4))), _font(40, generator)
    left, top, right, bottom = font.getbbox(text)
    margin = int(generator.integers(2, 10))
    image = Image.new("RGB", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin), paper)
    ImageDraw.Draw(image).text((margin - left, margin - top), text, ink, font)
    image = image.rotate(180) if upside_down else image
    image = image.rotate(float(generator.uniform(-1.5, 1.5)), Image.Resampling.BILINEAR, fillcolor=paper)
    width = min(shape[1], max(shape[0], round(image.width * shape[0] / image.height)))
    canvas = Image.new("RGB", (shape[1], shape[0]), (127, 127, 127))  # what PaddleOCR pads with is 0 after (x-127)/127
    canvas.paste(image.resize((width, shape[0]), Image.Resampling.BILINEAR), (0, 0))
    return _noisy(canvas, generator, float(generator.uniform(0, 6)))


def captchas(photos: Path, part: Part, count: int, side: int) -> Pixels:
    """Return photographs with single turned characters on them."""
    generator = generator_of(part, "captchas")
    backgrounds = _photographs(photos / "others", part)
    found = []
    for _ in range(count):
        image = _crop(backgrounds[int(generator.integers(len(backgrounds)))], side, generator)
        for _ in range(int(generator.integers(3, 7))):
            _stamp(image, generator)
        found.append(np.asarray(image))
    return np.stack(found)


def _stamp(image: Image.Image, generator: np.random.Generator) -> None:
    size = int(generator.integers(40, 80))
    sign = chr(int(generator.integers(ord("A"), ord("Z") + 1)))
    stamp = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(stamp).text((size // 2, size // 2), sign, 255, _font(size, generator))
    stamp = stamp.rotate(float(generator.uniform(-40, 40)))
    at = tuple(int(each) for each in generator.integers(0, image.width - 2 * size, 2))
    colour = tuple(int(each) for each in generator.integers(0, 256, 3))
    image.paste(Image.new("RGB", stamp.size, colour), (at[0], at[1]), stamp)


def opened(files: Sequence[Path]) -> Pixels:
    """Return images of one size."""
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def motor_spectra(part: Part, count: int, mels: int = 128, frames: int = 5) -> NDArray[np.float32]:
    """Return log-mel frames [N, mels · frames] of a humming motor in noise, 16 kHz, as MLPerf Tiny computes them."""
    generator = generator_of(part, "motors")
    bank = _mel_bank(mels, 1024, 16000)
    found = []
    for _ in range(count):
        time = np.arange(1024 + 512 * (frames - 1)) / 16000
        base, harmonics = generator.uniform(60, 400), int(generator.integers(5, 40))
        parts = generator.uniform(0, 1, harmonics) / np.arange(1, harmonics + 1) ** generator.uniform(0.3, 1.5)
        phases = generator.uniform(0, 2 * np.pi, harmonics)
        waves = [a * np.sin(2 * np.pi * base * (k + 1) * time + phases[k]) for k, a in enumerate(parts)]
        sound = 0.05 * np.sum(waves, axis=0) + generator.normal(0, generator.uniform(0.001, 0.03), len(time))
        windows = np.stack([sound[512 * at : 512 * at + 1024] * np.hanning(1024) for at in range(frames)])
        power = np.abs(np.fft.rfft(windows)) ** 2
        found.append((10 * np.log10(power @ bank.T + 2.2e-16)).reshape(-1))
    return np.stack(found).astype(np.float32)


def _mel_bank(mels: int, window: int, rate: int) -> NDArray[np.float64]:
    """Return triangles [mels, window/2 + 1], evenly spaced on the mel scale."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(window, 1 / rate)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.asarray(triangles * (2 / (edges[2:] - edges[:-2]))[:, None])
