"""What does the CIFAR-10 recipe reach, and in what time?

    python benchmarks/cifar10/run.py DATA TEACHER.th STUDENT.th [--store DIR]

Builds benchmarks/cifar10 for cpu-vnni and arm64 (about half an hour on 2 cores from an empty store), and writes
benchmarks/results/cifar10.json: accuracies, sizes, latencies, the seconds it took and which stages ran.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from building import Built, builds
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
    settings = [
        f"data.path={arguments.data.absolute()}",
        f"teacher.weights={arguments.teacher.absolute()}",
        f"student.weights={arguments.student.absolute()}",
    ]
    with tempfile.TemporaryDirectory() as out:
        done = builds(_HERE, settings, arguments.store, Path(out), ["cpu-vnni", "arm64"])
    ran = sorted({line.split()[0] for line in done[0].said.splitlines() if " runs:" in line})
    write(
        "cifar10", {"seconds": round(done[0].seconds), "stages_run": ran, "bundles": [summary(each) for each in done]}
    )


def summary(built: Built) -> dict[str, Any]:
    """Return what is quoted of a report."""
    report = built.report
    keys = ("target", "precision", "accuracy", "agreement_with_float", "latency", "this_host", "operators_in_float")
    return {key: report[key] for key in (*keys, "budgets", "training", "pruning", "notes")}


if __name__ == "__main__":
    main()
