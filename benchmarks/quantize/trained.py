"""Networks of our own that need no downloaded weights: trained here for some minutes each, exported, kept in a cache.

A detector on blood cells, with one output and with two; a U-Net and a regression on nuclei; an autoencoder and two
classifiers of torchvision on CIFAR-10; ResNet-20 and ResNet-56 from their published weights, the former
without its classifier too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cells
import detector
import numpy as np
import scenes
import torch
import torch.nn.functional as F
import torchvision
from agreement import Classifying, Detecting, Neighbours, Rebuilding, Segmenting, mean_precision
from by_hand import answered
from decoding import Joined
from exporting import cifar_resnet, export
from graphs import normalised
from numpy.typing import NDArray
from scenes import Part
from subjects import Feeding, Subject
from torch import Tensor, nn

from edgekd.models import resnet20

Floats = NDArray[np.float32]
_UNIT = Feeding()
NAMES = (
    ("detector_joined", "detector_split"),
    ("unet_nuclei", "regression_nuclei", "autoencoder_cifar10"),
    ("torchvision_mobilenet_v3_small", "torchvision_shufflenet_v2_x0_5"),
    ("resnet20_cifar10", "resnet56_cifar10", "resnet20_embedding"),
)
"""Of the files, by what is trained together."""
_WEIGHTS = {20: "resnet20-12fca82f.th", 56: "resnet56-4bfd9763.th"}


@dataclass(frozen=True)
class Sources:
    """Where the data, the published weights and the files made before are."""

    data: Path
    """BCCD/, nuclei/{train,test} and cifar10/{train,test}."""
    teachers: Path
    cache: Path


class UNet(nn.Module):
    """Ronneberger 2015, four scales: images [N, 3, H, W] of 0-1 to probabilities [N, 1, H, W]."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        widths = [width * 2**at for at in range(4)]
        self.down = nn.ModuleList(_double(a, b) for a, b in zip([3, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(widths))
        self.join = nn.ModuleList(_double(2 * a, a) for a in widths[:-1])
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return how likely each pixel is one of a nucleus."""
        held = []
        for at, down in enumerate(self.down):
            x = down(F.max_pool2d(x, 2) if at else x)
            held.append(x)
        for at in reversed(range(3)):
            x = self.join[at](torch.cat((held[at], self.up[at](x)), 1))
        return self.last(x).sigmoid()


def _double(wide: int, out: int) -> nn.Sequential:
    parts = [[nn.Conv2d(a, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()] for a in (wide, out)]
    return nn.Sequential(*(layer for part in parts for layer in part))


def _regression() -> nn.Module:
    """Return a network from images to [N, 3]: how much of it is nuclei, and where their middle lies."""
    layers = [layer for a, b in ((3, 8), (8, 16), (16, 32), (32, 48)) for layer in (*_double(a, b), nn.MaxPool2d(2))]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48 * 16, 64), nn.ReLU(), nn.Linear(64, 3)
    )


def _autoencoder() -> nn.Module:
    """Return a network from images to themselves, over [N, 24, 8, 8]."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 48, 3, 2, 1), nn.ReLU(), nn.Conv2d(48, 24, 3, 1, 1),
        nn.ReLU(), nn.ConvTranspose2d(24, 48, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(48, 24, 4, 2, 1), nn.ReLU(),
        nn.Conv2d(24, 3, 3, 1, 1), nn.Sigmoid(),
    )  # fmt: skip


def _fit(
    network: nn.Module, images: Floats, goals: NDArray[np.generic], loss: Callable[..., Tensor], epochs: int
) -> nn.Module:
    """Train by AdamW with one cycle, batches of 32, half the images mirrored where the goal is a class or an image."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.from_numpy(images), torch.from_numpy(goals)
    steps = len(x) // 32
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * steps)
    for _ in range(epochs):
        for few in torch.randperm(len(x), generator=generator)[: steps * 32].view(steps, 32):
            given, wanted = x[few], y[few]
            if torch.rand((), generator=generator) < 0.5 and wanted.ndim != 2:
                given, wanted = given.flip(-1), wanted.flip(-1) if wanted.ndim == 4 else wanted
            optimizer.zero_grad()
            loss(network(given), wanted).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _middle(masks: Floats) -> Floats:
    """Return the share of each mask [N, 1, H, W], and its middle as parts of the sides, [N, 3]."""
    side = masks.shape[-1]
    share = masks.mean(axis=(1, 2, 3))
    places = (np.arange(side) + 0.5) / side
    total = np.maximum(masks.sum(axis=(1, 2, 3)), 1)
    across = (masks.sum(axis=(1, 2)) * places).sum(1) / total
    down = (masks.sum(axis=(1, 3)) * places).sum(1) / total
    return np.stack([share, across, down], 1).astype(np.float32)


def _cifar(sources: Sources, part: str, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the first images of each class, and their classes."""
    folders = sorted(folder for folder in (sources.data / "cifar10" / part).iterdir() if folder.is_dir())
    files = [(file, at) for at, folder in enumerate(folders) for file in sorted(folder.glob("*.png"))[: count // 10]]
    return scenes.opened([file for file, _ in files]), np.array([at for _, at in files], np.int64)


def _of_cifar(sources: Sources, convert: Callable[..., Floats]) -> Callable[[Part], Floats]:
    counts = {"calibration": ("train", 200), "held out": ("test", 1000)}
    return lambda part: convert(_cifar(sources, *counts[part])[0])


def _of_nuclei(sources: Sources) -> Callable[[Part], Floats]:
    return lambda part: _UNIT(cells.nuclei(sources.data, "test" if part == "held out" else "train")[0][:128])


def _of_cells(sources: Sources) -> Callable[[Part], Floats]:
    lists = {"calibration": "trainval", "held out": "test"}
    return lambda part: _UNIT(np.stack(cells.annotated(sources.data, lists[part])[0][:128]))


def own(sources: Sources, only: Sequence[str] = ()) -> list[Subject]:
    """Return the networks, or those of some names, trained and exported where the cache lacks them."""
    sources.cache.mkdir(parents=True, exist_ok=True)
    groups = (_detectors, _dense, _classifiers, _published)
    found: list[Subject] = []
    for names, group in zip(NAMES, groups, strict=True):
        if not only or set(only) & set(names):
            found += group(sources)
    return [subject for subject in found if not only or subject.name in only]


def _detectors(sources: Sources) -> list[Subject]:
    files = {name: sources.cache / f"detector_{name}.onnx" for name in ("joined", "split")}
    if not all(file.exists() for file in files.values()):
        network = detector.trained(sources.data)
        for name, file in files.items():
            export(detector.Exported(network, joined=name == "joined"), detector.SIDE, file)
    images, wanted = cells.annotated(sources.data, "test")
    found = Joined(threshold=0.01)(answered(files["joined"], _UNIT(np.stack(images))))
    precision = mean_precision(found, wanted)
    origin = f"own, trained on BCCD, mAP@0.5 {precision:.3f}"
    return [Subject(file, Detecting(Joined()), _of_cells(sources), origin) for file in files.values()]


def _dense(sources: Sources) -> list[Subject]:
    files = {
        name: sources.cache / f"{name}.onnx" for name in ("unet_nuclei", "regression_nuclei", "autoencoder_cifar10")
    }
    torch.manual_seed(0)
    images, masks = cells.nuclei(sources.data, "train")
    if not files["unet_nuclei"].exists():
        export(_fit(UNet(), _UNIT(images), masks, F.binary_cross_entropy, 16), 128, files["unet_nuclei"])
    if not files["regression_nuclei"].exists():
        export(_fit(_regression(), _UNIT(images), _middle(masks), F.mse_loss, 12), 128, files["regression_nuclei"])
    if not files["autoencoder_cifar10"].exists():
        pixels = _UNIT(_cifar(sources, "train", 10000)[0])
        export(_fit(_autoencoder(), pixels, pixels, F.mse_loss, 2), 32, files["autoencoder_cifar10"])
    held, truth = cells.nuclei(sources.data, "test")
    iou = Segmenting().quality({"": truth}, answered(files["unet_nuclei"], _UNIT(held)))["iou"]
    kept = Rebuilding().quality({"": _middle(truth)}, answered(files["regression_nuclei"], _UNIT(held)))["fidelity"]
    pixels = _UNIT(_cifar(sources, "test", 500)[0])
    rebuilt = Rebuilding().quality({"": pixels}, answered(files["autoencoder_cifar10"], pixels))["fidelity"]
    cifar = _of_cifar(sources, _UNIT)
    return [
        Subject(files["unet_nuclei"], Segmenting(), _of_nuclei(sources), f"own, trained on nuclei, IoU {iou:.3f}"),
        Subject(files["regression_nuclei"], Rebuilding(), _of_nuclei(sources), f"own, trained, fidelity {kept:.3f}"),
        Subject(files["autoencoder_cifar10"], Rebuilding(), cifar, f"own, trained, fidelity {rebuilt:.3f}"),
    ]


def _classifiers(sources: Sources) -> list[Subject]:
    makers: dict[str, Callable[[], nn.Module]] = {
        "torchvision_mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
        "torchvision_shufflenet_v2_x0_5": lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=10),
    }
    subjects = []
    pixels, labels = _cifar(sources, "test", 1000)
    for name, make in makers.items():
        file = sources.cache / f"{name}.onnx"
        if not file.exists():
            torch.manual_seed(0)
            images, classes = _cifar(sources, "train", 10000)
            export(_fit(make(), normalised(images), classes, F.cross_entropy, 3), 32, file)
        right = float((next(iter(answered(file, normalised(pixels)).values())).argmax(1) == labels).mean())
        origin = f"torchvision, trained on 10,000 CIFAR-10 images, top-1 {right:.3f}"
        subjects.append(Subject(file, Classifying(), _of_cifar(sources, normalised), origin))
    return subjects


def _published(sources: Sources) -> list[Subject]:
    subjects = []
    for depth, weights in _WEIGHTS.items():
        file = sources.cache / f"resnet{depth}_cifar10.onnx"
        if not file.exists():
            cifar_resnet(depth, sources.teachers / weights, file)
        subjects.append(Subject(file, Classifying(), _of_cifar(sources, normalised), "published weights"))
    file = sources.cache / "resnet20_embedding.onnx"
    if not file.exists():
        network = resnet20(num_classes=10)
        given = torch.load(sources.teachers / _WEIGHTS[20], map_location="cpu", weights_only=True)
        state = given.get("state_dict", given)
        network.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
        last = [name for name, each in network.named_modules() if isinstance(each, nn.Linear)]
        setattr(network, last[-1], nn.Identity())
        export(network, 32, file)
    origin = "published weights, its classifier taken off"
    return [*subjects, Subject(file, Neighbours(), _of_cifar(sources, normalised), origin)]
