"""How much of what a float network does for its task another file still does, and the noise of every output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from decoding import Answers, Decode, Found, overlaps
from numpy.typing import NDArray


class Task(Protocol):
    """What a network is for."""

    def quality(self, parent: Answers, found: Answers) -> dict[str, float]:
        """Return figures of 0-1, of which the least says how much of the task is kept."""


@dataclass(frozen=True)
class Detecting:
    """Recall and precision of detections against those of float: same class, intersection over union of 0.5."""

    decode: Decode

    def quality(self, parent: Answers, found: Answers) -> dict[str, float]:
        """Return both, pooled over the images; with landmarks the part of them that lies where it did."""
        pairs = list(zip(self.decode(parent), self.decode(found), strict=True))
        errors = np.concatenate([_errors(one, other) for one, other in pairs])
        wanted, made = sum(len(one) for one, _ in pairs), sum(len(other) for _, other in pairs)
        if not wanted:
            raise ValueError("float detects nothing: these images say nothing")
        quality = {"recall": len(errors) / wanted, "precision": len(errors) / made if made else 1.0}
        has_landmarks = any(one.points.shape[1] for one, _ in pairs) and len(errors)
        return {**quality, "landmarks": float((errors < 0.1).mean())} if has_landmarks else quality


def _errors(parent: Found, found: Found) -> NDArray[np.float64]:
    """Match `found`, the surest first, each with a detection of the parent's of its own; return one number a match.

    It is the mean distance of the landmarks, relative to the box's diagonal; 0 where there are none.
    """
    if not len(parent) or not len(found):
        return np.zeros(0)
    fits = overlaps(found.boxes, parent.boxes) * (found.classes[:, None] == parent.classes[None, :])
    errors = []
    for at in np.argsort(-found.scores, kind="stable"):
        best = int(fits[at].argmax())
        if fits[at, best] >= 0.5:
            box = parent.boxes[best]
            apart = np.linalg.norm(parent.points[best] - found.points[at], axis=-1)
            errors.append(apart.mean() / np.hypot(*(box[2:] - box[:2])) if len(apart) else 0.0)
            fits[:, best] = 0
    return np.array(errors)


@dataclass(frozen=True)
class Segmenting:
    """Intersection over union of the masks above a threshold."""

    threshold: float = 0.5

    def quality(self, parent: Answers, found: Answers) -> dict[str, float]:
        """Return it, pooled over the images."""
        one, other = (next(iter(each.values())) > self.threshold for each in (parent, found))
        return {"iou": float((one & other).sum() / max(1, (one | other).sum()))}


@dataclass(frozen=True)
class Classifying:
    """The part of the images whose best class is the same."""

    def quality(self, parent: Answers, found: Answers) -> dict[str, float]:
        """Return it for the first output."""
        one, other = (next(iter(each.values())) for each in (parent, found))
        return {"agreement": float((one.argmax(-1) == other.argmax(-1)).mean())}


@dataclass(frozen=True)
class Scoring:
    """The probability of the second of two classes: one less the error of its log-odds relative to their spread.

    Below 0.005 and above 0.995 all probabilities count as one, since no threshold lies there.
    """

    def quality(self, parent: Answers, found: Answers) -> dict[str, float]:
        """Return it, 0-1."""
        one, other = ({"": _log_odds(next(iter(each.values()))[:, 1:])} for each in (parent, found))
        return {"log-odds": Rebuilding().quality(one, other)["fidelity"]}


def _log_odds(values: NDArray[np.float32]) -> NDArray[np.float32]:
    sure = np.clip(values, 0.005, 0.995)
    return np.asarray(np.log(sure / (1 - sure)))


@dataclass(frozen=True)
class Reading:
    """Lines of text, [N, steps, signs] with sign 0 for none (CTC): one less the edit distance for each sign read."""

    def quality(self, parent: Answers, found: Answers) -> dict[str, float]:
        """Return it, pooled over the lines."""
        one, other = (_read(next(iter(each.values()))) for each in (parent, found))
        wrong = sum(_edits(*pair) for pair in zip(one, other, strict=True))
        return {"signs": max(0.0, 1 - wrong / max(1, sum(map(len, one))))}


def _read(values: NDArray[np.float32]) -> list[list[int]]:
    best = values.argmax(-1)
    return [[int(sign) for at, sign in enumerate(row) if sign and (not at or sign != row[at - 1])] for row in best]


def _edits(one: Sequence[int], other: Sequence[int]) -> int:
    """Return Levenshtein's distance."""
    row = list(range(len(other) + 1))
    for number, sign in enumerate(one, 1):
        corner, row[0] = row[0], number
        for at, found in enumerate(other, 1):
            corner, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, corner + (sign != found))
    return row[-1]


@dataclass(frozen=True)
class Rebuilding:
    """Numbers that are the answer themselves: one less the error relative to the spread of float's."""

    def quality(self, parent: Answers, found: Answers) -> dict[str, float]:
        """Return it, 0-1."""
        one, other = (next(iter(each.values())).astype(np.float64) for each in (parent, found))
        spread = one - one.mean(axis=0)
        return {"fidelity": max(0.0, 1 - float(np.sqrt(((one - other) ** 2).sum() / (spread**2).sum())))}


@dataclass(frozen=True)
class Neighbours:
    """Embeddings [N, features]: the part of each image's ten nearest others, by the angle, that stays."""

    def quality(self, parent: Answers, found: Answers) -> dict[str, float]:
        """Return it, 0-1."""
        one, other = (_nearest(next(iter(each.values())).astype(np.float64)) for each in (parent, found))
        return {"neighbours": float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(one, other, strict=True)]))}


def _nearest(values: NDArray[np.float64], count: int = 10) -> list[list[int]]:
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    return np.argsort(-near, axis=1, kind="stable")[:, :count].tolist()


def mean_precision(found: Sequence[Found], wanted: Sequence[NDArray[np.float32]]) -> float:
    """Return the mean over classes of the average precision at an intersection over union of 0.5, all points.

    wanted: [n, 5] for each image, class and corners.
    """
    kinds = np.unique(np.concatenate([boxes[:, 0] for boxes in wanted])).astype(int)
    return float(np.mean([_precision_of(kind, found, wanted) for kind in kinds]))


def _precision_of(kind: int, found: Sequence[Found], wanted: Sequence[NDArray[np.float32]]) -> float:
    rows: list[tuple[float, bool]] = []
    total = 0
    for one, boxes in zip(found, wanted, strict=True):
        mine, truth = one.take(one.classes == kind), boxes[boxes[:, 0] == kind, 1:].astype(np.float64)
        total += len(truth)
        free = np.ones(len(truth), bool)
        for at in np.argsort(-mine.scores, kind="stable"):
            fits = overlaps(mine.boxes[at : at + 1], truth)[0] * free if len(truth) else np.zeros(1)
            hit = bool(fits.max() >= 0.5)
            rows.append((float(mine.scores[at]), hit))
            if hit:
                free[int(fits.argmax())] = False
    hits = np.cumsum([hit for _, hit in sorted(rows, key=lambda row: -row[0])])
    if not len(hits):
        return 0.0
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    recall = np.concatenate([[0.0], hits / total])
    return float((np.diff(recall) * precision).sum())


def verdict(quality: Mapping[str, float]) -> str:
    """Return whether the task says good (0.9 and more of everything kept), broken (below 0.7) or between."""
    kept = min(quality.values())
    return "good" if kept >= 0.9 else "broken" if kept < 0.7 else "between"


def sqnr_db(parent: Answers, found: Answers) -> dict[str, float]:
    """Return the signal-to-noise ratio of each output, in dB, at most 120."""
    ratios = {}
    for name, value in parent.items():
        one, other = value.astype(np.float64), found[name].astype(np.float64)
        noise = max(float(((one - other) ** 2).sum()), 1e-12 * float((one**2).sum()) + 1e-300)
        ratios[name] = 10 * float(np.log10(max(float((one**2).sum()), 1e-300) / noise))
    return ratios
