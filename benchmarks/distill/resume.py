"""Does a build that is killed while it trains go on, and end with the same bytes?

    python benchmarks/resume.py [--kills 5] [--seed 0]

Builds digits undisturbed, then again in another folder, where `kill -9` hits the process at random moments of its
training. Writes benchmarks/results/resume.json.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from results import write

_COMMAND = [sys.executable, "-m", "edgekd.cli", "build", "--target", "arm64"]


def main() -> None:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as calm, tempfile.TemporaryDirectory() as wild:
        subprocess.run(_COMMAND, cwd=calm, capture_output=True, check=False)
        resumed = sum(killed_in_training(Path(wild), chance.randint(2, 6)) for _ in range(arguments.kills))
        log = subprocess.run(_COMMAND, cwd=wild, capture_output=True, text=True, check=False).stdout
        same = model(Path(calm)) == model(Path(wild))
    write("resume", {"kills": resumed, "went_on": "goes on after epoch" in log, "same_bytes": same})


def killed_in_training(folder: Path, epochs: int) -> bool:
    """Start a build and kill it after some epochs; return whether it was still training."""
    process = subprocess.Popen(_COMMAND, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        epochs -= ": epoch " in line
        if epochs == 0:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    return process.returncode == -signal.SIGKILL


def model(folder: Path) -> str:
    """Return the sha256 of the bundle's model."""
    return hashlib.sha256((folder / "dist/digits-arm64/model.onnx").read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
