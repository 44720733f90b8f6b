"""The teacher's logits of some views of each image, as files that a training reads instead of asking the teacher.

logits/view-000.npy   float16 [images, classes], or [images, top + 1] where only the largest are kept
logits/top-000.npy    int32 [images, top], whose columns they are; the last of top + 1 is the level of all others
logits/cache.json     how many views and classes there are
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from edgekd.errors import ModelError
from edgekd.recipe import Augment
from edgekd.run import Progress, Run
from edgekd.train import batches, draws
from edgekd.train.batches import Batch, Examples

_SECONDS_BETWEEN_SIGNS = 0.5


class Shape(BaseModel):
    """What the files hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    views: int
    classes: int
    top: int
    """0: all logits."""


def write(
    folder: Path,
    teach: Callable[[Batch], Tensor],
    examples: Examples,
    augment: Augment,
    seed: int,
    batch: int,
    views: int,
    top: int,
    run: Run,
) -> None:
    """Write `views` views; those that lie there already stay.

    `teach` makes logits [B, classes] of a batch. Raises ModelError where a logit is no float16.
    """
    folder.mkdir(exist_ok=True)
    for view in range(views):
        file = folder / f"view-{view:03d}.npy"
        if not file.exists():
            logits = _of_view(teach, examples, augment, seed, batch, view, _Signs(run, view, views))
            _save(file, logits, top)
        run.show(Progress("teach", view + 1, views, f"view {view + 1}/{views}", milestone=True))
    one = torch.arange(1)
    table = draws.of_view(seed, 0, 1, examples.labels.device)
    classes = teach(batches.seen(examples, one, one.to(examples.labels.device), table, 0, augment)).shape[1]
    shape = Shape(views=views, classes=classes, top=top if top < classes - 1 else 0)
    (folder / "cache.json").write_text(shape.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read(folder: Path, device: torch.device) -> Callable[[Batch], Tensor]:
    """Return a batch -> the teacher's logits float32 [B, classes] of its view, read from the files."""
    shape = Shape.model_validate_json((folder / "cache.json").read_text(encoding="utf-8"))
    views = [_opened(folder / f"view-{view:03d}.npy") for view in range(shape.views)]
    kept = range(shape.views if shape.top else 0)
    columns = [_opened(folder / f"top-{view:03d}.npy") for view in kept]

    def logits(batch: Batch) -> Tensor:
        indices = batch.indices.numpy()
        rows = torch.from_numpy(views[batch.view][indices])
        if shape.top:
            rows = _spread(rows, torch.from_numpy(columns[batch.view][indices]).long(), shape.classes)
        return rows.to(device, non_blocking=True).float()

    return logits


def _opened(file: Path) -> np.ndarray:
    """Map a file: of a large cache only the rows of the batch are read."""
    return np.asarray(np.load(file, mmap_mode="r"))


class _Signs:
    """Shows, at most twice a second, how far a view is."""

    def __init__(self, run: Run, view: int, views: int) -> None:
        self._run, self._view, self._views = run, view, views
        self._start = self._last = time.monotonic()

    def show(self, done: int, count: int) -> None:
        """Say that `done` of `count` images of this view are done."""
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_SIGNS:
            return
        self._last = now
        note = f"view {self._view + 1}/{self._views}  {done / (now - self._start):.0f} images/s"
        self._run.show(Progress("teach", self._view * count + done, self._views * count, note))


def _of_view(
    teach: Callable[[Batch], Tensor],
    examples: Examples,
    augment: Augment,
    seed: int,
    batch: int,
    view: int,
    signs: _Signs,
) -> Tensor:
    """Return float16 [images, classes], in batches of one size: another may take a kernel that sums otherwise."""
    count = len(examples)
    device = examples.labels.device
    table = draws.of_view(seed, view, count, device)
    batch = min(batch, count)
    found = []
    for start in range(0, count, batch):
        indices = torch.arange(start, start + batch) % count
        seen = batches.seen(examples, indices, indices.to(device), table, view, augment)
        found.append(rounded(teach(seen))[: count - start].cpu())
        signs.show(min(start + batch, count), count)
    return torch.cat(found)


def rounded(logits: Tensor) -> Tensor:
    """Return logits as they are kept, float16. Raises ModelError where one is not finite in it."""
    half = logits.half()
    if not half.isfinite().all():
        raise ModelError(
            f"the teacher gives logits up to {logits.abs().max().item():.4g}, which a float16 cannot hold",
            "check the teacher's weights, mean and std; or leave out teacher_cache",
        )
    return half


def _save(file: Path, logits: Tensor, top: int) -> None:
    """Write beside, then rename; the columns first, since a view that lies there is taken to be whole."""
    if top and top < logits.shape[1] - 1:
        largest, columns = logits.float().topk(top, dim=1)
        others = logits.float().scatter(1, columns, -torch.inf).logsumexp(1, keepdim=True)
        level = others - np.log(logits.shape[1] - top)
        logits = torch.cat((largest, level), dim=1).half()
        _write(file.with_name(file.name.replace("view", "top")), columns.int().numpy())
    _write(file, logits.numpy())


def _write(file: Path, array: np.ndarray) -> None:
    beside = file.with_name(f"{file.name}.new")
    with beside.open("wb") as stream:
        np.save(stream, array)
    beside.replace(file)


def _spread(rows: Tensor, columns: Tensor, classes: int) -> Tensor:
    """Return [B, classes]: the largest in their columns, all others at the level that keeps their total probability."""
    return rows[:, -1:].expand(-1, classes).scatter(1, columns, rows[:, :-1])
