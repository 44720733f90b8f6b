"""Who may import whom: the table of rooms, held against the code."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import edgekd

PACKAGE = Path(edgekd.__file__).parent
STAGES = {"distill", "prune", "export", "quantize", "evaluate"}
WITH_TORCH = {"torch", "torchvision", "torch_pruning", "lightning_fabric", "onnxsim"}
HEAVY = WITH_TORCH | {
    "onnxscript",
    "onnx_ir",
}  # the last two are free of torch, but too slow for the start of a command

# Room: the rooms that it may import. A file beside the rooms is a room of its own.
ALLOWED: dict[str, set[str]] = {
    # What is said and asked.
    "errors": set(),
    "expected": set(),
    "frames": set(),
    "toml": {"errors"},
    "run": set(),
    "strict": {"errors", "expected"},
    "recipe": {"errors", "strict", "toml"},
    "target": {"errors", "recipe", "strict", "toml"},
    "budget": {"recipe"},
    "beside": {"errors"},
    "declared": {"errors"},
    "ref": {"declared", "errors", "frames"},
    "keys": {"ref"},
    "hashes": {"keys"},
    "reasons": set(),
    "choices": {"beside", "keys"},
    "record": {"beside", "keys"},
    "slot": {"beside", "hashes", "record"},
    "stages": {"errors", "stage", "distill", "evaluate", "export", "models", "prune", "quantize", "workload"},
    "verifying": {"choices", "errors", "hashes", "keys", "record", "run", "slot"},
    "stage": {"run"},
    "store": {"beside", "choices", "hashes", "keys", "reasons", "record", "run", "slot", "stage"},
    # The machine and its runtime.
    "host": {"target"},
    "runtime": {"errors", "host", "target"},
    "operators": {"runtime"},
    "constants": set(),
    "pooling": {"constants"},
    "latency": {"recipe"},
    "front": {"constants", "errors", "workload"},
    # Data and training.
    "workload": {"errors", "frames", "hashes", "recipe", "ref", "run", "stage"},
    "models": {"beside", "errors", "frames", "recipe", "ref", "run", "stage", "workload"},
    "train": {"beside", "errors", "host", "recipe", "run", "models", "workload"},
    # The stages: never one another.
    "distill": {"errors", "recipe", "ref", "run", "stage", "models", "train", "workload"},
    "prune": {"errors", "latency", "recipe", "ref", "run", "stage", "models", "train", "workload"},
    "export": {"pooling", "errors", "frames", "ref", "run", "stage", "front", "runtime", "models", "workload"},
    "quantize": {
        "constants",
        "pooling",
        "errors",
        "host",
        "recipe",
        "ref",
        "run",
        "stage",
        "target",
        "front",
        "runtime",
        "workload",
    },
    "evaluate": {"run", "stage", "runtime", "workload"},
    # What is measured, shipped and told.
    "bench": {"errors", "host", "latency", "recipe", "runtime"},
    "report": {"bench"},
    "bundle": {"beside", "errors", "target", "front", "operators", "runtime", "report", "workload"},
    # The order of it all.
    "products": {"stage"},
    "cautions": {"recipe", "workload"},
    "project": {"errors", "hashes", "recipe", "ref", "workload"},
    "rehearse": {"project", "recipe", "stage", "workload"},
    "quantizing": {"host", "recipe", "target", "stage", "store", "quantize", "workload"},
    "ship": {"errors", "quantizing", "recipe", "target", "host", "stage", "store", "runtime"}
    | {"bench", "evaluate", "quantize"},
    "quantization": {"ship", "stage", "target"},
    "standalone": {"beside", "errors", "recipe", "run", "target", "host", "stage", "store", "runtime", "front"}
    | {"operators"}
    | {"constants", "ref", "quantizing", "ship", "quantization", "bench", "bundle", "evaluate", "quantize", "workload"},
    "outcome": {
        "products",
        "project",
        "ship",
        "quantization",
        "budget",
        "recipe",
        "host",
        "target",
        "stage",
        "runtime",
        "operators",
    }
    | {"bench", "evaluate", "quantize", "report"},
    "compilation": {
        "errors",
        "products",
        "quantizing",
        "project",
        "recipe",
        "host",
        "target",
        "stage",
        "store",
        "runtime",
        "distill",
        "export",
        "quantize",
        "evaluate",
        "train",
    },
    "cutting": {
        "errors",
        "latency",
        "recipe",
        "products",
        "project",
        "compilation",
        "host",
        "target",
        "runtime",
        "stage",
        "store",
    }
    | {"bench", "models", "train", "prune", "quantize"},
    "chain": {"errors", "recipe", "ref", "products", "project", "compilation", "cutting", "stage", "store", "target"}
    | {"models", "train", "distill", "prune"},
    "pipeline": {"beside", "errors", "recipe", "ref", "run", "target", "host", "stage", "stages", "store", "runtime"}
    | {"cautions", "products", "project", "rehearse", "chain", "compilation", "quantizing", "ship", "outcome"}
    | {"evaluate", "quantize", "workload", "train", "bundle", "report"},
    "live": {"run"},
    "cli": {
        "errors",
        "verifying",
        "live",
        "run",
        "recipe",
        "target",
        "host",
        "runtime",
        "pipeline",
        "ship",
        "standalone",
        "bench",
        "report",
        "bundle",
        "edgekd",
    },
    "edgekd": {"errors", "pipeline", "recipe", "report", "run", "workload"},
}


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = file
    return found


def room_of(module: str) -> str:
    """The first name below edgekd; the package's own file is the room edgekd."""
    return "edgekd" if module == "edgekd" else module.split(".")[1]


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def imported(module: str) -> set[str]:
    """Return all that a module imports anywhere, types included; ours by module, others by distribution's name."""
    names: set[str] = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in modules() else str(node.module) for name in whole}
    return {name if name.startswith("edgekd") else name.partition(".")[0] for name in names}


def reached(module: str) -> set[str]:
    """Return all that a module imports, through as many modules of ours as it takes."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for name in imported(waiting.pop()) - found:
            found.add(name)
            # Importing a.b runs a as well.
            parts = name.split(".")
            ours = [".".join(parts[:count]) for count in range(2, len(parts) + 1)]
            waiting += [each for each in ours if each in modules()]
    return found


def calls_of(module: str, function: str) -> int:
    """Count the calls of a built-in function by its bare name."""
    calls = [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)]
    return sum(isinstance(call.func, ast.Name) and call.func.id == function for call in calls)


def test_every_room_is_in_the_table() -> None:
    assert {room_of(module) for module in modules()} == set(ALLOWED)


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_what_the_table_allows(room: str) -> None:
    mine = [module for module in modules() if room_of(module) == room]
    ours = {name for module in mine for name in imported(module) if name.startswith("edgekd")}
    assert {room_of(name) for name in ours} - {room} <= ALLOWED[room]


def test_the_table_runs_downwards_only() -> None:
    below = {room: set(rooms) for room, rooms in ALLOWED.items() if room not in {"edgekd", "cli"}}
    while below:
        lowest = {room for room, rooms in below.items() if not rooms & set(below)}
        assert lowest, f"a circle among {sorted(below)}"
        below = {room: rooms for room, rooms in below.items() if room not in lowest}


@pytest.mark.parametrize("room", sorted(STAGES))
def test_a_stage_never_imports_another_stage(room: str) -> None:
    assert not ALLOWED[room] & STAGES


@pytest.mark.parametrize(
    "room",
    ["quantize", "evaluate", "bench", "bundle", "report", "workload", "recipe", "target", "store", "front", "runtime"],
)
def test_a_torch_free_room_reaches_no_torch(room: str) -> None:
    mine = [module for module in modules() if room_of(module) == room]
    assert mine
    assert {module: reached(module) & WITH_TORCH for module in mine} == {module: set() for module in mine}


def test_the_walk_through_the_imports_does_find_torch() -> None:
    assert "torch" in reached("edgekd.pipeline")


def test_the_file_that_is_sent_to_a_device_imports_nothing_of_ours() -> None:
    names = imported("edgekd.bench.runner")
    assert not {name for name in names if name.startswith("edgekd")}
    assert names - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}


def test_only_the_command_line_and_the_runner_print() -> None:
    assert {module for module in modules() if calls_of(module, "print")} == {
        "edgekd.live",
        "edgekd.cli",
        "edgekd.bench.runner",
    }


def test_only_the_command_line_exits() -> None:
    leaving = {"exit", "quit"}
    found = {
        module
        for module in modules()
        for node in ast.walk(tree_of(module))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in {"sys.exit", "os._exit"})
        or (isinstance(node, ast.Name) and node.id in leaving)
    }
    assert found <= {"edgekd.cli"}


@pytest.mark.parametrize(
    "module",
    [
        "edgekd",
        "edgekd.cli",
        "edgekd.bench.measure",
        "edgekd.quantize.stage",
        "edgekd.standalone.quantize",
        "edgekd.evaluate.stage",
        "edgekd.bundle.write",
        "edgekd.report.text",
        "edgekd.target",
        "edgekd.workload.stage",
    ],
)
def test_what_need_not_train_loads_no_torch(module: str) -> None:
    code = f"import {module}, sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
