"""Does a distillation that is killed go on, and end with the same weights?

    python benchmarks/distill/resume.py [--kills 5] [--seed 0]

Builds digits with 20 epochs of distillation from cached logits, a moving average and clipping: undisturbed in one
folder, and in another where `kill -9` hits the process at random moments of the distillation. Compares the student's
weights and the shipped model, and writes benchmarks/results/distill-resume.json.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import write

_COMMAND = [
    sys.executable, "-m", "edgekd.cli", "build", "--target", "arm64",
    "--set", "distill.epochs=20", "--set", "distill.teacher_cache={views=4}", "--set", "distill.ema=0.99",
    "--set", "distill.clip=5.0", "--set", "prune.recovery.epochs=1",
    "--set", "budget={}",
]  # fmt: skip


def main() -> None:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as calm, tempfile.TemporaryDirectory() as wild:
        subprocess.run(_COMMAND, cwd=calm, capture_output=True, check=True)
        kills = [killed(Path(wild), 1 + round, chance.random()) for round in range(arguments.kills)]
        log = subprocess.run(_COMMAND, cwd=wild, capture_output=True, text=True, check=True).stdout
        figures = {
            "epochs": 20,
            "kills": kills,
            "went_on": [line for line in log.splitlines() if "goes on" in line],
            "same_weights": weights(Path(calm)) == weights(Path(wild)),
            "same_model": model(Path(calm)) == model(Path(wild)),
        }
    write("distill-resume", figures)


def killed(folder: Path, epochs: int, delay: float) -> str:
    """Start a build, let it distill some epochs and up to a second more, kill it; return its last words."""
    process = subprocess.Popen(_COMMAND, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        if line.startswith("distill: epoch"):
            last = line.strip()
            epochs -= 1
        if epochs == 0:
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL, "the build ended before it was killed"
    return last


def weights(folder: Path) -> str:
    """Return the sha256 of the distilled student."""
    (file,) = folder.glob(".edgekd/distill-*/network/weights.safetensors")
    return hashlib.sha256(file.read_bytes()).hexdigest()


def model(folder: Path) -> str:
    """Return the sha256 of the bundle's model."""
    return hashlib.sha256((folder / "dist/digits-arm64/model.onnx").read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
