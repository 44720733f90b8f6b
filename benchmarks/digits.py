"""How long does the built-in example take, cold and warm, and does it give the same bytes?

    python benchmarks/digits.py

Builds digits for arm64 and cpu three times: in an empty folder, again there, and in a second empty folder.
Writes benchmarks/results/digits.json.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from results import write

_TARGETS = ("arm64", "cpu")


def main() -> None:
    """Run, compare, write."""
    with tempfile.TemporaryDirectory(prefix="one-") as one, tempfile.TemporaryDirectory(prefix="other-") as other:
        cold, log = build(Path(one))
        first = models(Path(one))
        warm, warm_log = build(Path(one))
        again = models(Path(one))
        build(Path(other))
        elsewhere = models(Path(other))
        report = json.loads((Path(one) / "dist/digits-arm64/report.json").read_text(encoding="utf-8"))
        leaks = [
            folder for folder in (one, other) for file in files(Path(folder)) if folder.encode() in file.read_bytes()
        ]
    write(
        "digits",
        {
            "cold_s": round(cold, 1),
            "warm_s": round(warm, 1),
            "trainings_cold": log.count(": epoch "),
            "trainings_warm": warm_log.count(": epoch "),
            "same_bytes_again": first == again,
            "same_bytes_in_another_folder": first == elsewhere,
            "bundles_naming_their_folder": len(leaks),
            "arm64": summary(report),
        },
    )


def build(folder: Path) -> tuple[float, str]:
    """Return the seconds of one `edgekd build` as a process, and what it said."""
    command = [sys.executable, "-m", "edgekd.cli", "build"]
    for target in _TARGETS:
        command += ["--target", target]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 3):
        sys.exit(done.stderr)
    return seconds, done.stdout


def files(folder: Path) -> list[Path]:
    """Return every file of the bundles."""
    return sorted(file for file in (folder / "dist").rglob("*") if file.is_file())


def models(folder: Path) -> dict[str, str]:
    """Return the sha256 of each bundle's model."""
    return {
        file.parent.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files(folder)
        if file.name == "model.onnx"
    }


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """Return what the issue of a small model is judged by."""
    return {
        "accuracy": {row["stage"]: row["top1"] for row in report["accuracy"]},
        "images": report["accuracy"][0]["images"],
        "size_kb": report["accuracy"][-1]["size_kb"],
        "operators_in_float": report["operators_in_float"],
    }


if __name__ == "__main__":
    main()
