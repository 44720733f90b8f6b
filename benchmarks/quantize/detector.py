"""A small detector as Ultralytics builds and exports them: three scales, no anchors, distances as distributions.

Trained from scratch on blood cells (BCCD: red cells, white cells, platelets), 160×160, and exported twice with the same
weights: with one joined output [N, 4 + classes, cells], boxes in pixels beside scores of 0-1, and with two outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cells
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = cells.SIDE
_BINS = 8
_STRIDES = (8, 16, 32)


class Unit(nn.Sequential):
    """Convolution, normalisation, SiLU."""

    def __init__(self, wide: int, out: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(wide, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out, momentum=0.03), nn.SiLU()
        )


class Split(nn.Module):
    """Ultralytics' C2f: halves, one of which goes through bottlenecks, all of them joined."""

    def __init__(self, wide: int, out: int, adds: bool = True) -> None:
        super().__init__()
        self.first, self.last = Unit(wide, out), Unit(3 * out // 2, out)
        self.inner = nn.Sequential(Unit(out // 2, out // 2, 3), Unit(out // 2, out // 2, 3))
        self.adds = adds

    def forward(self, x: Tensor) -> Tensor:
        """[N, wide, H, W] to [N, out, H, W]."""
        one, other = self.first(x).chunk(2, 1)
        inner = self.inner(other)
        return self.last(torch.cat((one, other, other + inner if self.adds else inner), 1))


class Pools(nn.Module):
    """Ultralytics' SPPF: maxima over ever larger windows."""

    def __init__(self, wide: int) -> None:
        super().__init__()
        self.first, self.last, self.pool = Unit(wide, wide // 2), Unit(2 * wide, wide), nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[N, wide, H, W] to the same."""
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.last(torch.cat(parts, 1))


class Detector(nn.Module):
    """Images [N, 3, H, W] of 0-1 to logits [N, classes, cells] and distances [N, 4 · bins, cells]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.stem = nn.Sequential(Unit(3, 16, 3, 2), Unit(16, 32, 3, 2), Split(32, 32))
        self.down8 = nn.Sequential(Unit(32, 64, 3, 2), Split(64, 64))
        self.down16 = nn.Sequential(Unit(64, 96, 3, 2), Split(96, 96))
        self.down32 = nn.Sequential(Unit(96, 128, 3, 2), Split(128, 128), Pools(128))
        self.up16, self.up8 = Split(224, 96, adds=False), Split(160, 64, adds=False)
        self.to16, self.to32 = Unit(64, 64, 3, 2), Unit(96, 96, 3, 2)
        self.out16, self.out32 = Split(160, 96, adds=False), Split(224, 128, adds=False)
        self.boxes = nn.ModuleList(nn.Sequential(Unit(w, 32, 3), nn.Conv2d(32, 4 * _BINS, 1)) for w in (64, 96, 128))
        self.kinds = nn.ModuleList(nn.Sequential(Unit(w, 32, 3), nn.Conv2d(32, classes, 1)) for w in (64, 96, 128))
        for head in self.kinds:
            nn.init.constant_(head[1].bias, -4.0)  # most cells hold nothing

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and distances of all cells, the finest scale first."""
        at8 = self.down8(self.stem(images))
        at16 = self.down16(at8)
        at32 = self.down32(at16)
        up16 = self.up16(torch.cat((F.interpolate(at32, scale_factor=2.0), at16), 1))
        up8 = self.up8(torch.cat((F.interpolate(up16, scale_factor=2.0), at8), 1))
        out16 = self.out16(torch.cat((self.to16(up8), up16), 1))
        out32 = self.out32(torch.cat((self.to32(out16), at32), 1))
        scales = (up8, out16, out32)
        kinds = [head(x).flatten(2) for head, x in zip(self.kinds, scales, strict=True)]
        boxes = [head(x).flatten(2) for head, x in zip(self.boxes, scales, strict=True)]
        return torch.cat(kinds, 2), torch.cat(boxes, 2)


def centres() -> tuple[Tensor, Tensor]:
    """Return the centres of all cells, [2, cells] in cells, and their strides, [cells]."""
    points, strides = [], []
    for stride in _STRIDES:
        places = torch.arange(SIDE // stride) + 0.5
        rows, columns = torch.meshgrid(places, places, indexing="ij")
        points.append(torch.stack((columns.flatten(), rows.flatten())))
        strides.append(torch.full((points[-1].shape[1],), float(stride)))
    return torch.cat(points, 1), torch.cat(strides)


class Exported(nn.Module):
    """Images to boxes, centre and size in pixels, and scores; joined in one output or not."""

    def __init__(self, detector: Detector, joined: bool) -> None:
        super().__init__()
        points, strides = centres()
        self.detector, self.joined = detector, joined
        self.bins = nn.Conv2d(_BINS, 1, 1, bias=False)
        self.bins.weight.data[:] = torch.arange(_BINS, dtype=torch.float32).view(1, -1, 1, 1)
        self.points, self.strides = nn.Buffer(points[None]), nn.Buffer(strides[None, None])

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return [N, 4 + classes, cells], or [N, 4, cells] and [N, classes, cells]."""
        logits, values = self.detector(images)
        shaped = values.view(values.shape[0], 4, _BINS, values.shape[2]).transpose(1, 2)
        low, high = self.bins(shaped.softmax(1)).squeeze(1).chunk(2, 1)
        first, last = self.points - low, self.points + high
        boxes = torch.cat(((first + last) / 2, last - first), 1) * self.strides
        return torch.cat((boxes, logits.sigmoid()), 1) if self.joined else (boxes, logits.sigmoid())


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Return the generalized intersection over union (Rezatofighi 2019) of boxes by their corners, [..., 4]."""
    low, high = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (one[..., 2:] - one[..., :2]).prod(-1) + (other[..., 2:] - other[..., :2]).prod(-1) - shared
    hull = torch.maximum(one[..., 2:], other[..., 2:]) - torch.minimum(one[..., :2], other[..., :2])
    around = hull.prod(-1)
    return shared / (union + 1e-7) - (around - union) / (around + 1e-7)


def _assigned(scores: Tensor, boxes: Tensor, wanted: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Task-aligned assignment (TOOD, Feng 2021): which box each cell is for, -1 for none, and how well it fits.

    scores [cells, classes], boxes [cells, 4] by corners, wanted [n, 5] class and corners, places [cells, 2], in pixels.
    """
    inside = ((places[None] > wanted[:, None, 1:3]) & (places[None] < wanted[:, None, 3:])).all(-1)
    overlap = _overlap(wanted[:, None, 1:], boxes[None]).clamp(min=0)
    fit = scores[:, wanted[:, 0].long()].T.sqrt() * overlap**6 * inside
    least = fit.topk(10, dim=1).values[:, -1:]
    chosen = inside & (fit >= least) & (fit > 0)
    best = torch.where(chosen, overlap, -1.0).max(0)
    owner = torch.where(best.values >= 0, best.indices, -1)
    owned = torch.where(torch.arange(len(wanted))[:, None] == owner[None], fit, 0.0)
    scale = torch.where(owned > 0, overlap, 0.0).amax(1, keepdim=True) / (owned.amax(1, keepdim=True) + 1e-9)
    return owner, (owned * scale).sum(0)


def loss_of(logits: Tensor, values: Tensor, wanted: Sequence[Tensor]) -> Tensor:
    """Return classification, box and distribution loss of a batch, weighed as Ultralytics does."""
    points, strides = centres()
    shaped = values.view(values.shape[0], 4, _BINS, -1)
    distances = (shaped.softmax(2) * torch.arange(_BINS).view(1, 1, -1, 1)).sum(2)
    corners = torch.cat((points - distances[:, :2], points + distances[:, 2:]), 1) * strides
    goals, box_loss, spread_loss = torch.zeros_like(logits), logits.new_zeros(()), logits.new_zeros(())
    for at, boxes in enumerate(wanted):
        scores, found = logits[at].detach().sigmoid().T, corners[at].T
        if not len(boxes):
            continue
        owner, weight = _assigned(scores, found.detach(), boxes, (points * strides).T)
        cells_of = (owner >= 0).nonzero()[:, 0]
        mine, weights = boxes[owner[cells_of]], weight[cells_of]
        goals[at, mine[:, 0].long(), cells_of] = weights
        box_loss = box_loss + ((1 - _overlap(found[cells_of], mine[:, 1:])) * weights).sum()
        stride, place = strides[cells_of, None], points[:, cells_of].T
        goal = torch.cat((place - mine[:, 1:3] / stride, mine[:, 3:] / stride - place), 1).clamp(0, _BINS - 1.01)
        logs = shaped[at, :, :, cells_of].permute(2, 0, 1).log_softmax(2)
        low = goal.long()
        part = goal - low
        near = logs.gather(2, low[..., None])[..., 0] * (1 - part) + logs.gather(2, low[..., None] + 1)[..., 0] * part
        spread_loss = spread_loss - (near.mean(1) * weights).sum()
    total = goals.sum().clamp(min=1)
    kind_loss = F.binary_cross_entropy_with_logits(logits, goals, reduction="sum")
    return (0.5 * kind_loss + 7.5 * box_loss + 1.5 * spread_loss) / total


def trained(data: Path, epochs: int = 60, batch: int = 16) -> Detector:
    """Train on BCCD's trainval; its weights' moving average is returned."""
    torch.set_num_threads(1)  # two that wait for each other take ten times as long beside other work
    torch.manual_seed(0)
    images, boxes = cells.annotated(data, "trainval")
    detector = Detector(len(cells.CLASSES))
    mean = torch.optim.swa_utils.AveragedModel(
        detector, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98), use_buffers=True
    )
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3, weight_decay=0.02)
    steps = len(images) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * steps, pct_start=0.1)
    generator = np.random.default_rng(0)
    for epoch in range(epochs):
        total = 0.0
        for few in generator.permutation(len(images))[: steps * batch].reshape(steps, batch):
            pairs = [cells.turned(images[at], boxes[at], generator) for at in few]
            pixels = torch.from_numpy(np.stack([image for image, _ in pairs]).transpose(0, 3, 1, 2)).float() / 255
            with torch.autocast("cpu", torch.bfloat16):
                logits, values = detector(pixels)
            loss = loss_of(logits.float(), values.float(), [torch.from_numpy(wanted) for _, wanted in pairs])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
            optimizer.step()
            schedule.step()
            mean.update_parameters(detector)
            total += loss.item()
        print(f"detector: epoch {epoch + 1} of {epochs}, loss {total:.1f}", flush=True)
    detector.load_state_dict(mean.module.state_dict())
    return detector.eval()
