"""Write the folder for the app: beside, then renamed, so that it is whole or not there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from edgekd import front, operators, runtime
from edgekd.beside import replaced
from edgekd.bundle.checked import MANIFEST, sha256
from edgekd.bundle.manifest import Golden, Input, Manifest, Output
from edgekd.runtime import Settings
from edgekd.target import Target
from edgekd.workload import arrays
from edgekd.workload.images import RESIZE_RULE

GOLDEN_IMAGES = 16
_TOLERANCE = {"float": 1e-3, "fp16": 2e-2, "int8": 5e-2}
"""Relative to the largest logit, where float arithmetic remains: another device may round the other way."""


@dataclass(frozen=True)
class Contents:
    """What a bundle is made of. `test` is the prepared split that the golden images come from."""

    name: str
    model: Path
    precision: str
    classes: tuple[str, ...]
    target: Target
    test: Path
    exact_here: Settings
    report: str
    refused: Path | None = None
    """The int8 file that was made and is not shipped: it lies beside as int8.onnx."""


def write(contents: Contents, folder: Path) -> Manifest:
    """Write or replace the bundle. Raises EdgekdError where the folder cannot be written."""
    with replaced(folder) as part:
        return _fill(part, contents)


def _fill(part: Path, contents: Contents) -> Manifest:
    model = part / "model.onnx"
    shutil.copyfile(contents.model, model)
    if contents.refused is not None:
        shutil.copyfile(contents.refused, part / "int8.onnx")
    (part / "labels.txt").write_text("".join(f"{name}\n" for name in contents.classes), encoding="utf-8")
    (part / "report.json").write_text(contents.report, encoding="utf-8")
    exact = operators.that_run(model, contents.exact_here).is_closed_integer
    images = arrays.sample(arrays.load(contents.test), GOLDEN_IMAGES).images
    logits = runtime.run(runtime.open_session(model, contents.exact_here), images, batch=1)
    _save_golden(part / "golden.npz", images, logits)
    manifest = _manifest(
        part,
        contents,
        Golden(
            file="golden.npz",
            images=len(images),
            exact=exact,
            tolerance=0.0 if exact else _TOLERANCE[contents.precision] * float(np.abs(logits).max()),
        ),
    )
    (part / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return manifest


def _manifest(part: Path, contents: Contents, golden: Golden) -> Manifest:
    graph = onnx.load(part / "model.onnx")
    height, width = front.shape_of(graph)
    runtime_ = contents.target.runtime
    return Manifest(
        name=contents.name,
        target=contents.target.name,
        precision=contents.precision,
        input=Input(
            name=front.IMAGE,
            type="uint8",
            shape=("N", height, width, 3),
            layout="NHWC",
            colour="RGB",
            preprocessing=f"raw pixels 0-255, normalisation is inside. {RESIZE_RULE}",
        ),
        output=Output(
            name=front.LOGITS,
            type="float32",
            shape=("N", len(contents.classes)),
            meaning="logits; argmax is the line of labels.txt, from 0; softmax gives probabilities",
        ),
        labels=contents.classes,
        opset=max(opset.version for opset in graph.opset_import if opset.domain in ("", "ai.onnx")),
        ir=graph.ir_version,
        providers=runtime_.providers,
        threads=runtime_.threads,
        session=runtime_.session,
        golden=golden,
        files={file.name: sha256(file) for file in sorted(part.iterdir())},
    )


def _save_golden(file: Path, images: np.ndarray, logits: np.ndarray) -> None:
    """Write the arrays as .npz with fixed times: numpy stamps 1980-01-01 into the archive, so bytes are equal."""
    np.savez(file, image=images, logits=logits)
