"""What does the CIFAR-10 recipe reach, and in what time?

    python benchmarks/cifar10/run.py DATA TEACHER.th STUDENT.th [--store DIR]

Builds benchmarks/cifar10 for cpu-vnni and arm64 (about half an hour on 2 cores from an empty store), and writes
benchmarks/results/cifar10.json: accuracies, sizes, latencies, the seconds it took and which stages ran.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import write

_HERE = Path(__file__).parent


def main() -> None:
    """Build and collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("student", type=Path)
    parser.add_argument("--store", type=Path, default=Path(".edgekd"))
    arguments = parser.parse_args()
    settings = {
        "data.path": arguments.data.absolute(),
        "teacher.weights": arguments.teacher.absolute(),
        "student.weights": arguments.student.absolute(),
    }
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "edgekd.cli", "build", str(_HERE), "--json", "--out", out]
        command += ["--store", str(arguments.store), "--target", "cpu-vnni", "--target", "arm64"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode not in (0, 3):
            sys.exit(done.stderr)
        ran = sorted({line.split()[0] for line in done.stderr.splitlines() if " runs:" in line})
        bundles = json.loads(done.stdout)["bundles"]
    write("cifar10", {"seconds": round(seconds), "stages_run": ran, "bundles": [summary(each) for each in bundles]})


def summary(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return what is quoted of a report."""
    report = bundle["report"]
    keys = ("target", "precision", "accuracy", "agreement_with_float", "latency", "this_host", "operators_in_float")
    return {key: report[key] for key in (*keys, "budgets", "training", "pruning", "notes")}


if __name__ == "__main__":
    main()
