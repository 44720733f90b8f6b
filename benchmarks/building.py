"""Build a recipe as a user does, by the command, and read its report."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Built:
    """One bundle, its report, what the command said, and how long it took."""

    folder: Path
    report: dict[str, Any]
    said: str
    seconds: float

    @property
    def top1(self) -> dict[str, float]:
        """Accuracy on test by stage."""
        return {row["stage"]: row["top1"] for row in self.report["accuracy"]}


def build(recipe: Path, settings: Sequence[str], store: Path, out: Path, target: str) -> Built:
    """Run `edgekd build` for one target; on an error print what it says and exit."""
    return builds(recipe, settings, store, out, [target])[0]


def builds(recipe: Path, settings: Sequence[str], store: Path, out: Path, targets: Sequence[str]) -> list[Built]:
    """Run `edgekd build` once for several targets; a missed budget (3) is no error here."""
    command = [sys.executable, "-m", "edgekd.cli", "build", str(recipe), "--json", "--out", str(out)]
    command += ["--store", str(store)]
    for target in targets:
        command += ["--target", target]
    for setting in settings:
        command += ["--set", setting]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode not in {0, 3}:
        sys.exit(done.stderr)
    bundles = json.loads(done.stdout)["bundles"]
    return [Built(Path(bundle["folder"]), bundle["report"], done.stderr, seconds) for bundle in bundles]


def compare(model: Path, against: Path, target: str, rounds: int = 100) -> dict[str, Any]:
    """Run `edgekd bench`: two bundles or files interleaved; `times` is how many times faster `model` is."""
    command = [sys.executable, "-m", "edgekd.cli", "bench", str(model), "--against", str(against), "--json"]
    command += ["--target", target, "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    run = json.loads(done.stdout)[target]
    first, second = run["latency_ms"]
    return {
        "against_ms": run["latency_ms"][first]["p50"]["value"],
        "model_ms": run["latency_ms"][second]["p50"]["value"],
        "times": run["faster"][second]["value"],
        "interval": [run["faster"][second]["low"], run["faster"][second]["high"]],
    }
