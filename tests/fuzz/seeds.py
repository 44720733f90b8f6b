"""Small whole files that damage is done to: images of every format, .npz files, and ONNX graphs of many kinds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper
from PIL import Image, features

from tests.quantize.graphs import graph, node
from tests.standalone.files import good


def images() -> dict[str, bytes]:
    """Return files by their names."""
    generator = np.random.default_rng(0)
    noise = Image.fromarray(generator.integers(0, 256, (12, 16, 3), np.uint8))
    smooth = Image.fromarray(np.linspace(0, 255, 24 * 16 * 3).reshape(24, 16, 3).astype(np.uint8))
    grey = Image.fromarray(np.arange(0, 65280, 255, np.uint16).reshape(16, 16))
    palette = noise.quantize(16)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    second = {"save_all": True, "append_images": [noise.rotate(90, expand=False)]}
    saved: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("rgb.png", smooth, {"exif": exif, "icc_profile": bytes(200), "dpi": (72, 72)}),
        ("palette.png", palette, {"transparency": b"\x00\x80"}),
        ("deep.png", grey, {}),
        ("rgb.jpg", smooth, {"exif": exif, "quality": 80}),
        ("progressive.jpg", noise, {"progressive": True, "icc_profile": bytes(200)}),
        ("cmyk.jpg", smooth.convert("CMYK"), {}),
        ("rgb.bmp", noise, {}),
        ("palette.bmp", palette, {}),
        ("two.gif", palette, second),
        ("raw.tif", noise, {}),
        ("lzw.tif", smooth, {"compression": "tiff_lzw", "exif": exif}),
        ("jpeg.tif", smooth, {"compression": "jpeg"}),
        ("float.tif", Image.fromarray(generator.random((8, 8), np.float32)), {}),
        ("rgb.ppm", noise, {}),
        ("deep.pgm", grey, {}),
        ("bits.pbm", noise.convert("1"), {}),
    ]
    # What a Pillow may be built without.
    saved += [
        ("lossy.webp", smooth, {"exif": exif}),
        ("two.webp", noise, {**second, "lossless": True}),
    ] * features.check("webp")
    saved += [("rgb.avif", smooth, {"speed": 9})] * bool(features.check("avif"))
    saved += [("rgb.jp2", smooth, {})] * features.check("jpg_2000")
    return {name: _saved(image, Path(name).suffix, options) for name, image, options in saved}


def _saved(image: Image.Image, suffix: str, options: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    image.save(out, Image.registered_extensions()[suffix], **options)
    return out.getvalue()


def npz() -> dict[str, bytes]:
    """Return files that fit an input x, float32 [N, 5], and a rate, int64, which has no batch."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((6, 5)).astype(np.float32)
    files = {}
    for name, save, given in (
        ("stored", np.savez, {"x": rows, "rate": np.int64(8)}),
        ("deflated", np.savez_compressed, {"x": np.asfortranarray(rows), "rate": np.int64(8), "unread": np.zeros(99)}),
        ("objects", np.savez, {"x": rows, "rate": np.int64(8), "unread": np.array([{}], dtype=object)}),
    ):
        out = io.BytesIO()
        save(out, **given)
        files[f"{name}.npz"] = out.getvalue()
    return files


def models() -> dict[str, bytes]:
    """Return ONNX files by their names."""
    made = (good(), _attention(), _branches(), _recurrent(), _detector(), _old())
    names = ("good", "attention", "branches", "recurrent", "detector", "old")
    return {f"{name}.onnx": model.SerializeToString() for name, model in zip(names, made, strict=True)}


def _attention() -> ModelProto:
    """One head over [N, 4, 8]: MatMul, Softmax, LayerNormalization, and a feature that leaves beside the classes."""
    generator = np.random.default_rng(1)
    values = {name: generator.standard_normal((8, 8)) * 0.4 for name in ("q", "k", "v")}
    values |= {"one": np.ones(8), "zero": np.zeros(8), "f": generator.standard_normal((8, 3)), "half": np.array(0.35)}
    nodes = [
        *(node("MatMul", ["x", name], f"x{name}") for name in ("q", "k", "v")),
        node("Transpose", ["xk"], "xt", perm=[0, 2, 1]),
        node("MatMul", ["xq", "xt"], "s"),
        node("Mul", ["s", "half"], "h"),
        node("Softmax", ["h"], "a", axis=-1),
        node("MatMul", ["a", "xv"], "o"),
        node("Add", ["o", "x"], "r"),
        node("LayerNormalization", ["r", "one", "zero"], "l"),
        node("ReduceMean", ["l", "axes"], "m", keepdims=0),
        node("MatMul", ["m", "f"], "c"),
        node("Softmax", ["c"], "y", axis=1),
    ]
    model = graph(nodes, {**values, "axes": np.array([1])}, ["N", 4, 8], ["N", 3])
    model.graph.output.append(helper.make_tensor_value_info("m", TensorProto.FLOAT, ["N", 8]))
    return model


def _branches() -> ModelProto:
    """An If whose branches hold weights, after a local function of the file."""
    weight = numpy_helper.from_array(np.random.default_rng(2).standard_normal((6, 4)).astype(np.float32), "w")

    def branch(name: str, kind: str) -> onnx.GraphProto:
        made = [helper.make_node("MatMul", ["d", "w"], ["p"]), helper.make_node(kind, ["p"], [name])]
        return helper.make_graph(
            made, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)], [weight]
        )

    nodes = [
        helper.make_node("Twice", ["x"], ["d"], domain="own"),
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["up"]),
        helper.make_node("If", ["up"], ["y"], then_branch=branch("t", "Relu"), else_branch=branch("e", "Sigmoid")),
    ]
    model = graph(nodes, {"zero": np.array(0.0)}, ["N", 6], ["N", 4])
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def _recurrent() -> ModelProto:
    """An LSTM with a state [1, N, 4] beside sequences [3, N, 5], as voice detectors have."""
    generator = np.random.default_rng(3)
    values = {
        "w": generator.standard_normal((1, 16, 5)),
        "r": generator.standard_normal((1, 16, 4)),
        "b": np.zeros((1, 32)),
        "f": generator.standard_normal((4, 3)),
    }
    lstm = helper.make_node("LSTM", ["x", "w", "r", "b", "", "h", "c"], ["s", "n", "z"], name="lstm", hidden_size=4)
    model = graph([lstm, node("MatMul", ["n", "f"], "y")], values, [3, "N", 5], [1, "N", 3])
    for name in ("h", "c"):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "N", 4]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, "N", 4]))
    return model


def _detector() -> ModelProto:
    """Depthwise and transposed convolutions, Resize, Concat, Slice, and two dense outputs, on images [1, 3, 8, 8]."""
    generator = np.random.default_rng(4)
    values = {
        "w1": generator.standard_normal((6, 3, 3, 3)) * 0.3,
        "w2": generator.standard_normal((6, 1, 3, 3)) * 0.3,
        "w3": generator.standard_normal((6, 4, 2, 2)) * 0.3,
        "w4": generator.standard_normal((8, 10, 1, 1)) * 0.3,
        "scale": np.ones(6), "shift": np.zeros(6), "mean": np.zeros(6), "variance": np.ones(6),
        "six": np.array(6.0), "zero": np.array(0.0), "sizes": np.array([1.0, 1.0, 2.0, 2.0]),
        "from": np.array([0]), "to": np.array([4]), "axis": np.array([1]),
    }  # fmt: skip
    nodes = [
        node("Conv", ["x", "w1"], "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], "n"),
        node("Clip", ["n", "zero", "six"], "r"),
        node("Conv", ["r", "w2"], "d", pads=[1, 1, 1, 1], group=6),
        node("Resize", ["d", "", "sizes"], "u", mode="nearest"),
        node("ConvTranspose", ["r", "w3"], "t", strides=[2, 2]),
        node("Concat", ["u", "t"], "j", axis=1),
        node("Conv", ["j", "w4"], "o"),
        node("Slice", ["o", "from", "to", "axis"], "e"),
        node("Sigmoid", ["e"], "y"),
    ]
    model = graph(nodes, values, [1, 3, 8, 8], [1, 4, 8, 8])
    model.graph.output.append(helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 8, 8, 8]))
    return model


def _old() -> ModelProto:
    """Opset 9, constants among the inputs, weights through Reshape: brought to a current opset when it is opened."""
    generator = np.random.default_rng(5)
    values = {
        "k": generator.standard_normal((4, 3, 3, 3)),
        "f": generator.standard_normal((2, 8, 5)),
        "s": np.array([16, 5]),
    }
    nodes = [
        node("Conv", ["x", "k"], "c", auto_pad="SAME_UPPER", kernel_shape=[3, 3]),
        node("Relu", ["c"], "r"),
        node("MaxPool", ["r"], "p", kernel_shape=[4, 4], strides=[4, 4]),
        node("Flatten", ["p"], "v"),
        node("Reshape", ["f", "s"], "g"),
        node("MatMul", ["v", "g"], "m"),
        node("Softmax", ["m"], "y"),
    ]
    model = graph(nodes, values, [1, 3, 8, 8], [1, 5])
    model.opset_import[0].version, model.ir_version = 9, 3
    for value in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(value.name, value.data_type, list(value.dims)))
    return model


OF_IMAGES = ("detector", "good", "old")
"""The models that take images."""


def write_rows(name: str, folder: Path) -> None:
    """Write samples that one of the models takes while it is whole."""
    generator = np.random.default_rng(6)
    shapes = {"attention": {"x": (12, 4, 8)}, "branches": {"x": (12, 6)}}
    shapes["recurrent"] = {"x": (3, 12, 5), "h": (1, 12, 4), "c": (1, 12, 4)}
    rows: dict[str, Any] = {
        each: generator.standard_normal(shape).astype(np.float32)
        for each, shape in shapes.get(name, {"x": (12, 3, 8, 8)}).items()
    }
    np.savez(folder / "0.npz", **rows)


def write_pictures(name: str, folder: Path) -> None:
    """Write images, in two folders."""
    generator = np.random.default_rng(6)
    for number in range(12):
        file = folder / str(number % 2) / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (9, 8, 3), np.uint8)).save(file)
