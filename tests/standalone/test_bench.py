"""edgekd bench: open sizes are asked for, rows have names, and a bundle is checked and timed under its own target."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper
from PIL import Image

from edgekd import cli, host
from edgekd.bench import measure as measuring
from edgekd.errors import EdgekdError
from edgekd.standalone.bench import Timing, bench_files
from tests.quantize.graphs import graph, node

HERE, ELSEWHERE = ("cpu", "arm64") if host.this().architecture == "x86_64" else ("arm64", "cpu")
WILD = Path(__file__).parents[3] / "shared/data/wild"


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """What the sessions of each timing are given, a dict for each model."""
    seen: list[dict[str, np.ndarray]] = []
    real = measuring.runner.time_sessions

    def timed(sessions: list[Any], spec: Any, given: Any) -> Any:
        seen.extend(measuring.runner.feed_of(*each) for each in zip(sessions, given, strict=True))
        return real(sessions, spec, given)

    monkeypatch.setattr(measuring.runner, "time_sessions", timed)
    return seen


def identity(*inputs: tuple[str, int, list[Any]]) -> ModelProto:
    """One Identity for each input."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _, _ in inputs]
    graph_ = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(f"{name}_out", kind, shape) for name, kind, shape in inputs],
    )
    return helper.make_model(graph_, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def saved(model: ModelProto, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, file)
    return file


def network(sides: list[int | str]) -> ModelProto:
    values = {"w": np.random.default_rng(0).standard_normal((8, 3, 3, 3)), "b": np.zeros(8)}
    return graph([node("Conv", ["x", "w", "b"], "y", pads=[1] * 4)], values, ["N", 3, *sides], None)


def timing(*models: Path, **given: Any) -> Timing:
    return Timing(models, given.pop("targets", (HERE,)), rounds=5, **given)


def test_an_open_height_is_asked_for(tmp_path: Path) -> None:
    file = saved(network(["H", "W"]), tmp_path / "m.onnx")
    with pytest.raises(EdgekdError, match=r"the input x of m.onnx is \[N, 3, H, W\]") as caught:
        bench_files(timing(file))
    assert "--size" in caught.value.hint
    assert "--data" in caught.value.hint


def test_a_size_is_fed_to_each_model_in_its_own_layout_and_type(
    tmp_path: Path, fed: list[dict[str, np.ndarray]]
) -> None:
    first = saved(network(["H", "W"]), tmp_path / "a.onnx")
    second = saved(identity(("image", TensorProto.UINT8, ["N", "H", "W", 3])), tmp_path / "b.onnx")
    third = saved(identity(("grey", TensorProto.FLOAT, [2, 1, 24, "W"])), tmp_path / "c.onnx")
    bench_files(timing(first, second, third, size=(24, 40)))
    assert [(name, value.dtype, value.shape) for each in fed for name, value in each.items()] == [
        ("x", np.float32, (1, 3, 24, 40)),
        ("image", np.uint8, (1, 24, 40, 3)),
        ("grey", np.float32, (2, 1, 24, 40)),
    ]


def test_a_fixed_size_that_is_another_is_an_error(tmp_path: Path) -> None:
    file = saved(network([16, 16]), tmp_path / "m.onnx")
    with pytest.raises(EdgekdError, match=r"--size 24x40, but the input x of m.onnx is \[N, 3, 16, 16\]"):
        bench_files(timing(file, size=(24, 40)))


def test_arrays_are_fed_as_the_first_sample_holds_them(tmp_path: Path, fed: list[dict[str, np.ndarray]]) -> None:
    """A state whose batch is its second axis, and a rate that has none: what they hold is fed, not zeros."""
    model = identity(
        ("x", TensorProto.FLOAT, ["N", "T"]), ("state", TensorProto.FLOAT, [2, "N", 4]), ("rate", TensorProto.INT64, [])
    )
    file = saved(model, tmp_path / "m.onnx")
    x, state = np.arange(21, dtype=np.float32).reshape(3, 7), np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.savez(tmp_path / "a.npz", x=x, state=state, rate=np.int64(16000))
    bench_files(timing(file, data=tmp_path / "a.npz"))
    assert np.array_equal(fed[0]["x"], x[:1])
    assert np.array_equal(fed[0]["state"], state[:, :1])
    assert fed[0]["rate"] == 16000


def test_a_folder_of_images_gives_the_size_of_its_first(tmp_path: Path, fed: list[dict[str, np.ndarray]]) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "images/b.png")
    Image.new("RGB", (50, 40)).save(tmp_path / "images/a.png")
    file = saved(network(["H", "W"]), tmp_path / "m.onnx")
    bench_files(timing(file, data=tmp_path / "images"))
    bench_files(timing(file, data=tmp_path / "images/b.png"))
    assert [each["x"].shape for each in fed] == [(1, 3, 40, 50), (1, 3, 20, 30)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": (8, 8)}, "takes no image of 1 or 3 channels"),
        ({"size": (8, 8), "data": Path("x.npz")}, "--size and --data both say what is fed"),
        ({"data": Path("nowhere")}, "no data folder nowhere"),
        ({}, "the input x of m.onnx is"),
    ],
)
def test_what_cannot_be_fed_is_an_error_with_a_hint(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    file = saved(identity(("x", TensorProto.FLOAT, ["N", "T"])), tmp_path / "m.onnx")
    with pytest.raises(EdgekdError) as caught:
        bench_files(timing(file, **given))
    assert message in caught.value.message
    assert caught.value.hint


def test_files_of_one_name_are_two_rows(tmp_path: Path) -> None:
    model = network([8, 8])
    files = [saved(model, tmp_path / folder / "m/model.onnx") for folder in "AB"]
    assert list(bench_files(timing(*files))[HERE].latency_ms) == ["A/m/model.onnx", "B/m/model.onnx"]


Edgekd = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Edgekd:
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgekd", "bench", "--rounds", "5", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return run


@pytest.fixture
def bundles(toy: Any, tmp_path: Path) -> Path:
    """A folder with the toy's bundles for arm64 and cpu."""
    for target in ("arm64", "cpu"):
        shutil.copytree(toy.bundle(target), tmp_path / target)
    return tmp_path


def test_a_bundle_is_timed_under_its_own_target(command: Edgekd, bundles: Path) -> None:
    code, out, _ = command(bundles / HERE, "--json")
    assert code == 0
    assert list(json.loads(out)) == [HERE]
    code, _, err = command(bundles / ELSEWHERE)
    assert (code, err.splitlines()[0].split(":")[1]) == (1, f" cannot bench for {ELSEWHERE}")
    code, out, _ = command(bundles / ELSEWHERE, "--target", HERE, "--json")
    assert (code, list(json.loads(out))) == (0, [HERE])


def test_bundles_of_two_targets_need_one_named(command: Edgekd, bundles: Path) -> None:
    code, _, err = command(bundles / "arm64", "--against", bundles / "cpu")
    assert code == 1
    assert err.splitlines()[0] == "error: the bundles are of different targets: arm64 and cpu"
    assert err.splitlines()[1].startswith("hint: ")


def test_a_target_that_is_not_shipped_needs_its_file(command: Edgekd, bundles: Path) -> None:
    file = bundles / HERE / "manifest.json"
    file.write_text(file.read_text(encoding="utf-8").replace(f'"{HERE}"', '"board"'), encoding="utf-8")
    code, _, err = command(bundles / HERE)
    assert code == 1
    assert "the target board, which is no shipped one" in err
    assert "--target board.toml" in err


def test_a_flipped_byte_is_exit_code_1_and_nothing_is_timed(command: Edgekd, bundles: Path) -> None:
    content = bytearray((bundles / HERE / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundles / HERE / "model.onnx").write_bytes(content)
    code, out, err = command(bundles / HERE)
    assert (code, out) == (1, "")
    assert [line.split(":")[0] for line in err.splitlines()] == ["error", "hint"]
    assert "model.onnx is not the file that was written" in err


@pytest.mark.data
@pytest.mark.skipif(not WILD.is_dir(), reason="no models of others beside the checkout")
def test_a_detector_with_open_sides_is_timed_at_its_size(fed: list[dict[str, np.ndarray]]) -> None:
    with pytest.raises(EdgekdError, match=r"\[batch, 3, height, width\]"):
        bench_files(timing(WILD / "yunet_n_dynamic.onnx"))
    bench_files(timing(WILD / "yunet_n_320_320.onnx", WILD / "yunet_n_dynamic.onnx", size=(320, 320)))
    assert [each["input"].shape for each in fed] == [(1, 3, 320, 320)] * 2


@pytest.mark.parametrize("option", ["size", "data"])
def test_a_batch_that_no_memory_holds_is_an_error_where_the_size_is_open_too(tmp_path: Path, option: str) -> None:
    """12 TB of float64 were asked for, before anything looked at the shape."""
    file = saved(identity(("x", TensorProto.FLOAT, [2**31, 3, "h", "w"])), tmp_path / "net.onnx")
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    given = {"size": Timing((file,), (HERE,), 5, size=(16, 16)), "data": Timing((file,), (HERE,), 5, data=tmp_path)}
    with pytest.raises(EdgekdError, match=r"the input x of .* takes 1649267441664 values at once"):
        bench_files(given[option])
