"""One damaged file is opened as edgekd opens it: what comes out is a result, or an error made for the user."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from edgekd import host
from edgekd import target as targets
from edgekd.errors import EdgekdError
from edgekd.quantize import settled
from edgekd.recipe import alone
from edgekd.run import Run
from edgekd.standalone.asked import Request, check
from edgekd.standalone.bench import Timing, bench_files
from edgekd.standalone.fed import fed_by
from edgekd.standalone.opening import loaded
from edgekd.standalone.quantize import quantize_file
from edgekd.workload import images, npz
from edgekd.workload.images import Colour, Framing, Resize
from edgekd.workload.npz import Wanted
from tests.fuzz import mutations, seeds

_SHARED = Path(__file__).parent.parent.parent.parent / "shared"
ODD, WILD = (sorted((_SHARED / name).glob("*.onnx")) for name in ("repro/onnx", "data/wild"))
"""Beside the checkout only."""


class Case(Protocol):
    """What is done with the files of one kind."""

    @property
    def files(self) -> dict[str, bytes]:
        """Whole files by their names."""

    def damaged(self, content: bytes, generator: np.random.Generator) -> bytes:
        """Return a damaged file."""

    def open(self, file: Path, number: int, folder: Path) -> None:
        """Open a damaged file; raise what edgekd raises."""


@dataclass(frozen=True)
class Images:
    """Pictures, under every rule of resizing and in every order of colours."""

    @cached_property
    def files(self) -> dict[str, bytes]:
        return seeds.images()

    def damaged(self, content: bytes, generator: np.random.Generator) -> bytes:
        is_png = content.startswith(b"\x89PNG") and generator.random() < 0.7
        return mutations.of_png(content, generator) if is_png else mutations.of_bytes(content, generator)

    def open(self, file: Path, number: int, folder: Path) -> None:
        resize: tuple[Resize, ...] = ("stretch", "letterbox", "crop")
        colour: tuple[Colour, ...] = ("rgb", "bgr", "grey")
        framing = Framing(resize[number % 3], colour[number // 3 % 3])
        try:
            height, width = images.size_of(file)
            pixels = images.read(file, (9, 7), framing)
        except images.UnreadableImageError as error:
            # What the callers make of it.
            raise EdgekdError(str(error), "remove it") from None
        assert height > 0
        assert width > 0
        assert (pixels.shape, pixels.dtype) == ((9, 7, framing.channels), np.uint8)


@dataclass(frozen=True)
class Arrays:
    """.npz files, as samples of a graph with two inputs."""

    @cached_property
    def files(self) -> dict[str, bytes]:
        return seeds.npz()

    def damaged(self, content: bytes, generator: np.random.Generator) -> bytes:
        is_inside = generator.random() < 0.6
        return mutations.of_npz(content, generator) if is_inside else mutations.of_bytes(content, generator)

    def open(self, file: Path, number: int, folder: Path) -> None:
        wanted = {
            "x": Wanted(np.dtype(np.float32), (None, 5), 0),
            "rate": Wanted(np.dtype(np.int64), (), None),
        }
        found = npz.find(file, wanted)
        npz.write(found, np.arange(sum(found.rows)), folder / "out")


@dataclass(frozen=True)
class Models:
    """ONNX files: quantized for two targets, shipped in float, and timed; on arrays, and on images where they fit."""

    @cached_property
    def files(self) -> dict[str, bytes]:
        return seeds.models()

    def damaged(self, content: bytes, generator: np.random.Generator) -> bytes:
        is_structure = generator.random() < 0.8
        return mutations.of_model(content, generator) if is_structure else mutations.of_bytes(content, generator)

    def open(self, file: Path, number: int, folder: Path) -> None:
        generator = np.random.default_rng(number)
        takes_images = file.stem in seeds.OF_IMAGES and generator.random() < 0.3
        data = folder / "data"
        data.mkdir()
        (seeds.write_pictures if takes_images else seeds.write_rows)(file.stem, data)
        if generator.random() < 0.25:
            near = (name for name in targets.names() if host.why_not(targets.load(name).device, host.this()) is None)
            bench_files(Timing((file,), (next(near),), 5, data=data if generator.random() < 0.5 else None))
            return
        request = Request(
            file,
            data,
            targets.load(("arm64", "cpu-vnni")[int(generator.integers(2))]),
            alone({"samples": 8}, ["quantize.precision=float"] if generator.random() < 0.2 else []),
            folder / "dist",
            absorb=takes_images and generator.random() < 0.5,
            task=("auto", "classification", "dense")[int(generator.integers(3))],
            insist=generator.random() < 0.7,
        )
        check(request)
        quantize_file(request, Run())


@dataclass(frozen=True)
class Odd(Models):
    """ONNX files that are odd before they are damaged."""

    @cached_property
    def files(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in ODD}


@dataclass(frozen=True)
class Wild(Models):
    """ONNX files that are in use: opened, and no more, since they are large."""

    @cached_property
    def files(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in WILD}

    def open(self, file: Path, number: int, folder: Path) -> None:
        seeds.write_rows(file.stem, folder)
        request = Request(file, folder, targets.load("arm64"), alone({}, []), folder / "dist")
        model = loaded(file)
        settled.check(model)
        fed_by(model, request)


@dataclass(frozen=True)
class Misbehaving:
    """Does all that a campaign must notice, one after another: what holds the campaign itself to its word."""

    @property
    def files(self) -> dict[str, bytes]:
        return {"nothing.txt": b"nothing"}

    def damaged(self, content: bytes, generator: np.random.Generator) -> bytes:
        return content

    def open(self, file: Path, number: int, folder: Path) -> None:
        match number:
            case 0:
                raise ValueError("escaped")
            case 1:
                raise EdgekdError("refused", "as it should be")
            case 2:
                os.abort()
            case 3:
                while True:
                    time.sleep(1)
            case 4:
                subprocess.run(["gs", "--version"], check=True, capture_output=True)
            case 5:
                np.empty(10**13)
            case 6:
                raise EdgekdError("no hint", "")


KINDS: dict[str, Case] = {
    "images": Images(),
    "npz": Arrays(),
    "onnx": Models(),
    "odd": Odd(),
    "wild": Wild(),
    "misbehaving": Misbehaving(),
}
