"""Latency of ONNX files and bundles on this machine: what `edgekd bench` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekd import host, runtime
from edgekd import target as targets
from edgekd.bench import names
from edgekd.bench.measure import Inputs, Measured, measure
from edgekd.bench.runner import random_values
from edgekd.bundle.checked import checked, is_bundle
from edgekd.bundle.manifest import Manifest
from edgekd.errors import DataError, ModelError, TargetError, printable
from edgekd.recipe import Bench
from edgekd.target import Target
from edgekd.workload import archive, gather, images, npz
from edgekd.workload.batch import batch_axes
from edgekd.workload.layout import Size, layout_of
from edgekd.workload.npz import Wanted

_DEFAULT = "cpu"


@dataclass(frozen=True)
class Timing:
    """What the command was asked for."""

    models: tuple[Path, ...]
    """ONNX files or bundles; the others are compared with the first."""
    targets: tuple[str, ...] = ()
    """Names or files; empty: that of the bundles, else cpu."""
    rounds: int = 60
    size: Size | None = None
    """Of images, where a graph leaves height or width open."""
    data: Path | None = None
    """An image, a file of inputs, or a folder of either."""


def bench_files(asked: Timing) -> dict[str, Measured]:
    """Time the models for each target, by its name. Raises EdgekdError."""
    bundles = [checked(model) for model in asked.models if is_bundle(model)]
    wanted = [targets.load(name) for name in asked.targets] or [_target_of(bundles)]
    for target in wanted:
        why_not = host.why_not(target.device, host.this())
        if why_not is not None:
            raise TargetError(f"cannot bench for {target.name}: {why_not}", "run edgekd bench on the device itself")
    files = [model / "model.onnx" if model.is_dir() else model for model in asked.models]
    for file in files:
        if not file.is_file():
            raise ModelError(f"no model {file}", "name an ONNX file, or a bundle folder that holds model.onnx")
    models = dict(zip(names.distinct(files), files, strict=True))
    return {target.name: _timed(models, target, asked) for target in wanted}


def _target_of(bundles: list[Manifest]) -> Target:
    """Return the target that the bundles were built for, or the default where there is none."""
    found = sorted({manifest.target for manifest in bundles})
    if len(found) > 1:
        raise TargetError(
            f"the bundles are of different targets: {' and '.join(found)}", f"name one: --target {found[0]}"
        )
    if found and found[0] not in targets.names():
        raise TargetError(
            f"the bundle is of the target {found[0]}, which is no shipped one",
            f"name its file, --target {found[0]}.toml, or one of {', '.join(targets.names())}",
        )
    return targets.load(found[0] if found else _DEFAULT)


def _timed(models: Mapping[str, Path], target: Target, asked: Timing) -> Measured:
    settings = runtime.settings_of(target.runtime)
    feeds = {}
    if asked.size is not None or asked.data is not None:
        feeds = {name: _feed(name, runtime.open_session(file, settings), asked) for name, file in models.items()}
    return measure(models, settings, Bench(rounds=asked.rounds), feeds)


def _feed(name: str, session: Any, asked: Timing) -> Inputs:
    if asked.size is not None and asked.data is not None:
        raise DataError("--size and --data both say what is fed", "give one of them")
    if asked.size is not None:
        return _of_size(name, session, asked.size, f"--size {asked.size[0]}x{asked.size[1]}")
    data = asked.data or Path()
    if npz.files_of(data):
        return _of_file(session, data)
    file = data if data.is_file() else gather.pictures(data).files[0]
    try:
        size = images.size_of(file)
    except images.UnreadableImageError as error:
        raise DataError(f"cannot read the image {printable(file)}: {error}", "name an image, or a .npz file") from None
    return _of_size(name, session, size, "")


def _of_size(name: str, session: Any, size: Size, option: str) -> Inputs:
    """Return random pixels of a size for every input that takes images; a size that was not asked for gives way."""
    feed: dict[str, NDArray[Any]] = {}
    generator = np.random.default_rng(0)
    for value in session.get_inputs():
        layout = layout_of(value.shape)
        if layout is None:
            continue
        if option and not layout.takes(size):
            raise ModelError(f"{option}, but the input {value.name} of {name} is {layout}", "leave --size out")
        sides = (layout.height or size[0], layout.width or size[1])
        shape = layout.shape(value.shape[0] if isinstance(value.shape[0], int) else 1, sides)
        runtime.check_shape(name, value.name, shape)
        feed[value.name] = random_values(value.type, shape, generator)
    if not feed:
        shapes = ", ".join(f"{value.name} {list(value.shape)}" for value in session.get_inputs())
        raise ModelError(
            f"{name} takes no image of 1 or 3 channels ({shapes})", "give a file of its inputs: --data FILE.npz"
        )
    return feed


def _of_file(session: Any, data: Path) -> Inputs:
    """Return the first sample of the first .npz file, or as many as the graph takes at once."""
    dims = {value.name: value.shape for value in session.get_inputs()}
    axes = batch_axes(dims)
    wanted = {
        value.name: Wanted(
            _dtype(value.type), tuple(size if isinstance(size, int) else None for size in value.shape), axes[value.name]
        )
        for value in session.get_inputs()
    }
    first = npz.files_of(data)[0]
    npz.find(first, wanted)
    fixed = [each.dims[each.axis] for each in wanted.values() if each.axis is not None]
    count = next((size for size in fixed if size is not None), 1)
    values = archive.read(first, wanted)
    return {name: each.take(values[name], slice(0, count)) for name, each in wanted.items()}


def _dtype(kind: str) -> np.dtype[Any]:
    """Return numpy's name of one of onnxruntime's types, such as tensor(float)."""
    name = {"float": "FLOAT", "double": "DOUBLE"}.get(kind[7:-1], kind[7:-1].upper())
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(name)))
