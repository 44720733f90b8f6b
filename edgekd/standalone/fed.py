"""How the graph that `edgekd quantize` was given takes its samples: images, or arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto

from edgekd import front, runtime
from edgekd.errors import DataError, ModelError
from edgekd.quantize.entry import Entry
from edgekd.standalone.asked import Request, inputs_of
from edgekd.standalone.options import per_channel
from edgekd.workload import npz
from edgekd.workload.batch import Dims, batch_axes
from edgekd.workload.images import Framing
from edgekd.workload.layout import Layout, Size, layout_of
from edgekd.workload.normalisation import Normalisation
from edgekd.workload.npz import Wanted

_KINDS = {TensorProto.UINT8: "uint8", TensorProto.FLOAT: "float32"}


@dataclass(frozen=True)
class FedImages:
    """Images of the sizes, framed, as the graph's one input."""

    entry: Entry | None
    """None: pixels, into a front that the graph has."""
    name: str
    layout: Layout
    batch: int | None
    """How many the graph takes at once; None where that is open."""
    framing: Framing
    sizes: tuple[Size, ...]
    normalised: Literal["by the caller", "in the graph", "not by this command"]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def report(self) -> dict[str, Any]:
        """Return what is fed, as the report keeps it; mean and std in the order of the channels, in pixel units."""
        is_known = self.normalised != "not by this command"
        return {
            "kind": "images",
            "input": self.name,
            "type": "float32" if self.normalised == "by the caller" else "uint8",
            "layout": self.layout.name,
            "colour": "grey" if self.framing.colour == "grey" else self.framing.colour.upper(),
            "sizes": [list(size) for size in self.sizes],
            "resize": self.framing.resize,
            "normalised": self.normalised,
            "mean": list(self.mean) if is_known else None,
            "std": list(self.std) if is_known else None,
        }


@dataclass(frozen=True)
class FedArrays:
    """Arrays by the names of the graph's inputs."""

    entry: Entry
    wanted: Mapping[str, Wanted]

    @property
    def batch(self) -> int | None:
        """How many samples the graph takes at once; None where that is open."""
        fixed = [each.dims[each.axis] for each in self.wanted.values() if each.axis is not None]
        return next((size for size in fixed if size is not None), None)

    def report(self) -> dict[str, Any]:
        """Return what is fed, as the report keeps it."""
        return {"kind": "arrays", "inputs": {name: str(each) for name, each in self.wanted.items()}}


Fed = FedImages | FedArrays


def fed_line(report: Mapping[str, Any]) -> str:
    """Return what a report says was fed, in words."""
    if report["kind"] == "arrays":
        return f"fed: {', '.join(f'{name} {what}' for name, what in report['inputs'].items())}"
    sizes = [f"{height}×{width}" for height, width in report["sizes"]]
    timed = f"; its speed is judged at {sizes[0]}" if len(sizes) > 1 else ""
    text = (
        f"fed: {report['type']} {report['layout']}, {report['colour']}, {', '.join(sizes)} ({report['resize']}){timed}"
    )
    if report["mean"] is None:
        return f"{text}; pixels as they are"
    mean, std = (", ".join(f"{value:g}" for value in report[key]) for key in ("mean", "std"))
    return f"{text}; (pixel - mean) / std {report['normalised']}, mean {mean}, std {std}"


def fed_by(model: ModelProto, request: Request) -> Fed:
    """Return how the graph is fed; a front is put on where it is asked for. Raises DataError, ModelError."""
    taken = inputs_of(model)
    if npz.files_of(request.data):
        return _arrays(taken, request)
    if len(taken) != 1:
        named = f" ({', '.join(value.name for value in taken)})" if taken else ""
        raise DataError(
            f"the graph has {len(taken)} inputs{named}, images are one",
            "give a folder of .npz files that hold an array for each input",
        )
    value = taken[0]
    layout = layout_of(dims_of(value))
    kind = value.type.tensor_type.elem_type
    if layout is None or kind not in _KINDS:
        sides = ", ".join(str(size or "any") for size in dims_of(value))
        raise DataError(
            f"the input {value.name} is {_kind(value)} [{sides}], no image of 1 or 3 channels in uint8 or float32",
            "give a folder of .npz files that hold the inputs by name",
        )
    found = _images(value, layout, request)
    if layout.is_open:
        _check_sizes(model, found)
    if request.absorb and found.normalised == "by the caller":
        return _absorbed(model, found)
    if value.name == front.IMAGE and kind == TensorProto.UINT8 and front.nodes_of(model):
        return replace(found, entry=None)
    return found


def dims_of(value: ValueInfoProto) -> Dims:
    """Return a shape: sizes, and names or None where they are open; Paddle's exporter writes -1 there."""
    return [dim.dim_value if dim.dim_value > 0 else dim.dim_param or None for dim in value.type.tensor_type.shape.dim]


def _arrays(taken: list[ValueInfoProto], request: Request) -> FedArrays:
    given = {"--absorb": request.absorb, "--size": bool(request.sizes), "--colour": request.colour is not None}
    given["--resize"] = request.resize != "stretch"
    if wrong := [option for option, is_given in given.items() if is_given]:
        raise DataError(f"{wrong[0]} is about images, and the data are .npz files", f"leave {wrong[0]} out")
    dims = {value.name: dims_of(value) for value in taken}
    axes = batch_axes(dims)
    wanted = {
        value.name: Wanted(
            np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)),
            tuple(size if isinstance(size, int) else None for size in dims[value.name]),
            axes[value.name],
        )
        for value in taken
    }
    return FedArrays(Entry(kind="arrays"), wanted)


def _images(value: ValueInfoProto, layout: Layout, request: Request) -> FedImages:
    colour = request.colour or ("grey" if layout.channels == 1 else "rgb")
    framing = Framing(request.resize, colour)
    if framing.channels != layout.channels:
        fitting = "grey" if layout.channels == 1 else "rgb or bgr"
        raise DataError(
            f"--colour {colour} has {framing.channels} channel(s), the input {value.name} is {layout}",
            f"leave it out, or --colour {fitting}",
        )
    batch = dims_of(value)[0]
    is_pixels = value.type.tensor_type.elem_type == TensorProto.UINT8
    mean, std = (
        per_channel(option, values, layout.channels)
        for option, values in (("--mean", request.mean), ("--std", request.std))
    )
    kept = Entry(kind="pixels", name=value.name, channels_first=layout.first)
    made = Entry(kind="normalised", name=value.name, mean=mean, std=std, channels_first=layout.first)
    return FedImages(
        entry=kept if is_pixels else made,
        name=value.name,
        layout=layout,
        batch=batch if isinstance(batch, int) else None,
        framing=framing,
        sizes=_sizes(value.name, layout, batch, request),
        normalised="not by this command" if is_pixels else "by the caller",
        mean=mean,
        std=std,
    )


def _sizes(name: str, layout: Layout, batch: int | str | None, request: Request) -> tuple[Size, ...]:
    sizes = request.sizes
    if not sizes:
        if layout.height is None or layout.width is None:
            raise ModelError(
                f"the input {name} has no fixed height and width",
                "say what they will be: --size 224, or --size 240x320, or several with commas between them",
            )
        return ((layout.height, layout.width),)
    if wrong := [size for size in sizes if not layout.takes(size)]:
        fitting = "another size" if layout.is_open else "leave --size out"
        raise ModelError(f"--size {wrong[0][0]}x{wrong[0][1]}, but the input {name} is {layout}", fitting)
    if len(sizes) > 1 and isinstance(batch, int) and batch > 1:
        raise ModelError(
            f"--size names {len(sizes)} sizes, and the graph takes {batch} images at once",
            "name one size, or export the graph with an open batch",
        )
    return sizes


def _check_sizes(model: ModelProto, fed: FedImages) -> None:
    """Raise ModelError for a size that the graph does not take, before any image is read."""
    session = runtime.open_model(model, runtime.Settings())
    kind = np.float32 if fed.normalised == "by the caller" else np.uint8
    for size in fed.sizes:
        shape = fed.layout.shape(fed.batch or 1, size)
        runtime.check_shape("the graph", fed.name, shape)
        try:
            runtime.answer(session, [session.get_outputs()[0].name], {fed.name: np.zeros(shape, kind)})
        except ModelError as error:
            raise ModelError(
                f"--size {size[0]}x{size[1]}: {error.message}",
                "name a size that the network was made for: many take multiples of 32 only",
            ) from None


def _absorbed(model: ModelProto, fed: FedImages) -> FedImages:
    """Put the front on; the graph then takes pixels [N, H, W, C] as `image`."""
    if not fed.layout.first:
        raise DataError(f"the input {fed.name} has its channels last, --absorb needs [N, C, H, W]", "leave it out")
    # Of one channel all three are the same.
    mean, std = ((values * 3)[:3] for values in (fed.mean, fed.std))
    front.put_on(model, Normalisation(mean=(mean[0], mean[1], mean[2]), std=(std[0], std[1], std[2])))
    layout = replace(fed.layout, first=False)
    return replace(fed, entry=None, name=front.IMAGE, layout=layout, normalised="in the graph")


def _kind(value: ValueInfoProto) -> str:
    return str(TensorProto.DataType.Name(value.type.tensor_type.elem_type)).lower()
