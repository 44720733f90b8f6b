"""Annotated microscopy: blood cells in boxes (BCCD) and nuclei in masks (Data Science Bowl 2018)."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 160
CLASSES = ("RBC", "WBC", "Platelets")
Pixels = NDArray[np.uint8]
Boxes = NDArray[np.float32]


def annotated(data: Path, part: str) -> tuple[list[Pixels], list[Boxes]]:
    """Return BCCD's images of one of its lists, stretched to 160×160, and boxes [n, 5]: class and corners in pixels."""
    folder = data / "BCCD"
    names = (folder / "ImageSets" / "Main" / f"{part}.txt").read_text(encoding="ascii").split()
    images, boxes = [], []
    for name in names:
        image = Image.open(folder / "JPEGImages" / f"{name}.jpg").convert("RGB")
        images.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
        boxes.append(_boxes(folder / "Annotations" / f"{name}.xml", (SIDE / image.width, SIDE / image.height)))
    return images, boxes


def _boxes(file: Path, scale: tuple[float, float]) -> Boxes:
    rows = []
    for each in ElementTree.parse(file).getroot().iter("object"):
        corners = [float(each.findtext(f"bndbox/{side}") or 0) for side in ("xmin", "ymin", "xmax", "ymax")]
        if corners[2] > corners[0] and corners[3] > corners[1]:
            kind = CLASSES.index(each.findtext("name") or "")
            rows.append([kind, *(value * scale[at % 2] for at, value in enumerate(corners))])
    return np.array(rows, np.float32).reshape(-1, 5)


def turned(image: Pixels, boxes: Boxes, generator: np.random.Generator) -> tuple[Pixels, Boxes]:
    """Return an image and its boxes flipped, turned and lit by chance."""
    found = boxes.copy()
    if generator.random() < 0.5:
        image, found = (
            image[:, ::-1],
            np.stack([found[:, 0], SIDE - found[:, 3], found[:, 2], SIDE - found[:, 1], found[:, 4]], 1),
        )
    if generator.random() < 0.5:
        image, found = (
            image[::-1],
            np.stack([found[:, 0], found[:, 1], SIDE - found[:, 4], found[:, 3], SIDE - found[:, 2]], 1),
        )
    if generator.random() < 0.5:
        image, found = image.transpose(1, 0, 2), found[:, [0, 2, 1, 4, 3]]
    light = generator.uniform(0.75, 1.2, 3) if generator.random() < 0.5 else np.full(3, generator.uniform(0.8, 1.15))
    return np.clip(image * light, 0, 255).astype(np.uint8), np.ascontiguousarray(found)


def nuclei(data: Path, part: str, side: int = 128) -> tuple[Pixels, NDArray[np.float32]]:
    """Return images [N, side, side, 3] and masks [N, 1, side, side] of nuclei."""
    folder = data / "nuclei" / part
    images, masks = [], []
    for file in sorted((folder / "images").glob("*.png")):
        images.append(np.asarray(Image.open(file).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)))
        mask = Image.open(folder / "masks" / file.name).resize((side, side), Image.Resampling.NEAREST)
        masks.append(np.asarray(mask)[None] == 1)
    return np.stack(images), np.stack(masks).astype(np.float32)
