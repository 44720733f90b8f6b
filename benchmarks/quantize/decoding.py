"""What detectors of others mean by their outputs: boxes, scores and classes, as each one's authors decode them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Answers = Mapping[str, NDArray[np.float32]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """Detections of an image: boxes [n, 4] as left, top, right, bottom; scores, classes [n]; points [n, k, 2]."""

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int64]
    points: Floats
    """Landmarks, of detectors that tell them; else k is 0."""

    def take(self, which: NDArray[Any]) -> Found:
        """Return some of them."""
        return Found(self.boxes[which], self.scores[which], self.classes[which], self.points[which])

    def __len__(self) -> int:
        return len(self.scores)


Decode = Callable[[Answers], Sequence[Found]]


def overlaps(one: Floats, other: Floats) -> Floats:
    """Return the intersection over union of all pairs, [n, m]."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    sizes = [np.prod(np.clip(each[:, 2:] - each[:, :2], 0, None), axis=1) for each in (one, other)]
    return np.asarray(shared / np.maximum(sizes[0][:, None] + sizes[1][None, :] - shared, 1e-9))


def suppressed(found: Found, overlap: float) -> Found:
    """Return the detections that no better one of their class covers."""
    order = np.argsort(-found.scores, kind="stable")
    boxes, classes = found.boxes[order], found.classes[order]
    covered = (overlaps(boxes, boxes) > overlap) & (classes[:, None] == classes[None, :])
    kept: list[int] = []
    for at in range(len(order)):
        if not covered[at, kept].any():
            kept.append(at)
    return found.take(order[kept])


def _chosen(boxes: Floats, scores: Floats, threshold: float, overlap: float, points: Floats | None = None) -> Found:
    """Return what is left of boxes [n, 4] by centre and size, and scores [n, classes]."""
    best = scores.max(axis=1)
    centre, size = boxes[:, :2], boxes[:, 2:]
    corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    marks = np.zeros((len(boxes), 0, 2)) if points is None else points
    found = Found(corners, best, scores.argmax(axis=1), marks)
    return suppressed(found.take(best > threshold), overlap)


def _grid(side: int, stride: int) -> Floats:
    """Return the cells of a square image, row by row, [n, 2] as x, y."""
    cells = side // stride
    rows, columns = np.mgrid[:cells, :cells]
    return np.stack([columns, rows], axis=-1).reshape(-1, 2).astype(np.float64)


@dataclass(frozen=True)
class Joined:
    """Ultralytics: one output [N, 4 + classes, anchors], or boxes [N, 4, anchors] and scores [N, classes, anchors]."""

    threshold: float = 0.25
    overlap: float = 0.45

    def __call__(self, answers: Answers) -> list[Found]:
        """Return the detections of each image."""
        values = list(answers.values())
        values.sort(key=lambda each: each.shape[1] != 4)
        rows = np.concatenate(values, axis=1).astype(np.float64).transpose(0, 2, 1)
        return [_chosen(row[:, :4], row[:, 4:], self.threshold, self.overlap) for row in rows]


@dataclass(frozen=True)
class YoloX:
    """YOLOX: one output [N, anchors, 5 + classes], centres in cells, sizes as logarithms, objectness."""

    side: int
    threshold: float = 0.1
    overlap: float = 0.45

    def __call__(self, answers: Answers) -> list[Found]:
        """Return the detections of each image."""
        grids = [_grid(self.side, stride) for stride in (8, 16, 32)]
        strides = np.concatenate(
            [np.full((len(grid), 1), stride) for grid, stride in zip(grids, (8, 16, 32), strict=True)]
        )
        found = []
        for row in next(iter(answers.values())).astype(np.float64):
            centre = (row[:, :2] + np.concatenate(grids)) * strides
            boxes = np.concatenate([centre, np.exp(np.clip(row[:, 2:4], -20, 20)) * strides], axis=1)
            found.append(_chosen(boxes, row[:, 4:5] * row[:, 5:], self.threshold, self.overlap))
        return found


@dataclass(frozen=True)
class YuNet:
    """YuNet: cls, obj, bbox and kps of three strides, [N, cells, 1], [N, cells, 1], [N, cells, 4], [N, cells, 10]."""

    side: int
    threshold: float = 0.6
    overlap: float = 0.3

    def __call__(self, answers: Answers) -> list[Found]:
        """Return the detections of each image."""
        return [self._one(answers, at) for at in range(len(next(iter(answers.values()))))]

    def _one(self, answers: Answers, image: int) -> Found:
        boxes, scores, points = [], [], []
        kinds = ("cls", "obj", "bbox", "kps")
        for stride in (8, 16, 32):
            cls, obj, box, kps = (answers[f"{kind}_{stride}"][image].astype(np.float64) for kind in kinds)
            grid = _grid(self.side, stride)
            centre = (grid + box[:, :2]) * stride
            points.append((grid[:, None] + kps.reshape(len(grid), 5, 2)) * stride)
            boxes.append(np.concatenate([centre, np.exp(np.clip(box[:, 2:], -20, 20)) * stride], axis=1))
            scores.append(np.sqrt(np.clip(cls, 0, 1) * np.clip(obj, 0, 1)))
        joined = (np.concatenate(parts) for parts in (boxes, scores, points))
        boxes_of_all, scores_of_all, points_of_all = joined
        return _chosen(boxes_of_all, scores_of_all, self.threshold, self.overlap, points_of_all)


@dataclass(frozen=True)
class FastestDet:
    """FastestDet: one output [N, 5 + classes, H, W]: objectness, box, scores of a cell."""

    threshold: float = 0.65
    overlap: float = 0.45

    def __call__(self, answers: Answers) -> list[Found]:
        """Return the detections of each image, the sides of which are 1."""
        values = next(iter(answers.values())).astype(np.float64)
        cells = values.shape[2]
        found = []
        for row in values.reshape(*values.shape[:2], -1).transpose(0, 2, 1):
            centre = (_grid(cells, 1) + np.tanh(row[:, 1:3])) / cells
            boxes = np.concatenate([centre, 1 / (1 + np.exp(-row[:, 3:5]))], axis=1)
            scores = np.clip(row[:, :1], 0, None) ** 0.6 * np.clip(row[:, 5:], 0, None) ** 0.4
            found.append(_chosen(boxes, scores, self.threshold, self.overlap))
        return found


@dataclass(frozen=True)
class Regions:
    """Differentiable binarization (PP-OCR): one map [N, 1, H, W]; regions above a threshold, grown as they shrank."""

    threshold: float = 0.3
    least_mean: float = 0.5
    growth: float = 1.6

    def __call__(self, answers: Answers) -> list[Found]:
        """Return the detections of each image."""
        return [self._one(values[0].astype(np.float64)) for values in next(iter(answers.values()))]

    def _one(self, values: Floats) -> Found:
        numbers, count = ndimage.label(values > self.threshold)
        boxes, scores = [], []
        for rows, columns in ndimage.find_objects(numbers, count):
            height, width = rows.stop - rows.start, columns.stop - columns.start
            mean = float(values[rows, columns].mean())
            if min(height, width) < 3 or mean < self.least_mean:
                continue
            grown = height * width * self.growth / (2 * (height + width))
            boxes.append([columns.start - grown, rows.start - grown, columns.stop + grown, rows.stop + grown])
            scores.append(mean)
        kinds = np.zeros(len(scores), np.int64)
        places = np.array(boxes, np.float64).reshape(-1, 4)
        return Found(places, np.array(scores, np.float64), kinds, np.zeros((len(scores), 0, 2)))
