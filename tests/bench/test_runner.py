"""The runner takes turns, times what it says, and needs nothing of edgekd."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekd.bench import runner
from edgekd.bench.runner import Spec

ALONE = """
import importlib.abc, runpy, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"edgekd", "torch", "onnx", "pydantic", "scipy"}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Session:
    """Writes down when it runs."""

    def __init__(self, name: str, log: list[str], kind: str = "tensor(uint8)", **shapes: list[Any]) -> None:
        self.name, self.log, self.kind = name, log, kind
        self.shapes = shapes or {"image": ["N", 4, 5, 3]}
        self.feeds: list[dict[str, np.ndarray]] = []

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=name, type=self.kind, shape=shape) for name, shape in self.shapes.items()]

    def run(self, outputs: None, feed: dict[str, np.ndarray]) -> None:
        self.log.append(self.name)
        self.feeds.append(feed)


def spec(**values: Any) -> Spec:
    base = {"models": [], "rounds": 4, "warmup": 3, "calls": 2, "threads": 1, "providers": [], "entries": {}}
    return Spec(**{**base, **values})


def test_every_model_is_timed_rounds_times_calls() -> None:
    log: list[str] = []
    times = runner.time_sessions([Session(name, log) for name in "abc"], spec())
    assert np.array(times).shape == (3, 4, 2)
    assert np.array(times).min() >= 0
    assert {name: log.count(name) for name in "abc"} == dict.fromkeys("abc", 3 + 4 * (1 + 2))


def test_models_take_turns_and_every_other_round_runs_backwards() -> None:
    log: list[str] = []
    runner.time_sessions([Session(name, log) for name in "ab"], spec(warmup=1, calls=1, rounds=2))
    assert "".join(log) == "ab" + "aabb" + "bbaa"


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("tensor(uint8)", "uint8"),
        ("tensor(float)", "float32"),
        ("tensor(float16)", "float16"),
        ("tensor(double)", "float64"),
    ],
)
def test_feed_has_batch_1_and_the_type_of_the_input(kind: str, dtype: str) -> None:
    session = Session("a", [], kind)
    runner.time_sessions([session], spec(rounds=1))
    feed = session.feeds[0]["image"]
    assert feed.shape == (1, 4, 5, 3)
    assert feed.dtype == dtype
    assert len(np.unique(feed)) > 10


def test_an_open_axis_beside_the_batch_is_never_taken_for_1() -> None:
    for shape in (["N", 3, "H", "W"], [None, 3, 4, None], ["T", "N", 40], [1, "T"]):
        with pytest.raises(ValueError, match="more than its batch is open"):
            runner.feed_of(Session("a", [], x=shape))
    feed = runner.feed_of(Session("a", [], x=["N", 4], state=[2, "N", 3], more=[None, 2]))
    assert {name: value.shape for name, value in feed.items()} == {"x": (1, 4), "state": (2, 1, 3), "more": (1, 2)}


def test_what_is_given_is_fed_as_it_is_and_the_rest_at_random() -> None:
    given = {"x": np.ones((2, 7), np.float32)}
    session = Session("a", [], "tensor(float)", x=["N", "T"], y=["N", 3])
    runner.time_sessions([session], spec(rounds=1), [given])
    assert all(feed["x"] is given["x"] and feed["y"].shape == (1, 3) for feed in session.feeds)


def test_imports_are_the_standard_library_numpy_and_onnxruntime() -> None:
    tree = ast.parse(Path(runner.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} - {"numpy", "onnxruntime"} <= sys.stdlib_module_names


def test_runs_alone_as_a_script(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    graph = helper.make_graph(
        [helper.make_node("Cast", ["image"], ["logits"], to=TensorProto.FLOAT)],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", "H", "W", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), model)
    script = tmp_path / "device" / "runner.py"
    script.parent.mkdir()
    shutil.copyfile(runner.__file__, script)
    np.savez(tmp_path / "in.npz", image=np.zeros((1, 2, 2, 3), np.uint8))
    inputs = [str(tmp_path / "in.npz")] * 2
    asked = spec(models=[str(model)] * 2, rounds=3, providers=["CPUExecutionProvider"], inputs=inputs)
    command = [sys.executable, "-I", "-c", ALONE, str(script), json.dumps(vars(asked))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=script.parent, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert np.array(answer["times"]).shape == (2, 3, 2)
    assert answer["onnxruntime"].count(".") == 2
