"""Is half of the latency half of the latency? ResNet-56 cut to keep_latency three times, from nothing each time.

    python benchmarks/prune/latency.py DATA RESNET56.th [--keep 0.5] [--times 3] [--target cpu-vnni]

Each request has an empty store: tables are measured anew, and damage is. A few hundred images and one epoch of
recovery, since time does not hang on weights. Writes benchmarks/results/prune-latency.json: what the table predicted
and what was measured in each round, and the p50 of the int8 file in the bundle over that of the uncut int8 file, in
one interleaved run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from building import build
from results import write

_HERE = Path(__file__).parent
_TRAIN, _TEST = 100, 20


def main() -> None:
    """Ask several times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--keep", type=float, default=0.5)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--target", default="cpu-vnni")
    arguments = parser.parse_args()
    requests = []
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few"
        _few(arguments.data, few)
        for number in range(arguments.times):
            requests.append(_ask(arguments, few, Path(folder) / str(number)))
            print(requests[-1], flush=True)
    kept = [request["kept"] for request in requests]
    worst = max(abs(each / arguments.keep - 1) for each in kept)
    write("prune-latency", {"asked": arguments.keep, "kept": kept, "farthest": worst, "requests": requests})


def _ask(arguments: argparse.Namespace, data: Path, folder: Path) -> dict[str, Any]:
    settings = [f"data.path={data}", f"teacher.weights={arguments.weights.absolute()}", "quantize.samples=64"]
    settings += [f"prune={{ keep_latency = {arguments.keep}, recovery = {{ epochs = 1, batch = 32 }} }}"]
    # So few images leave little accuracy, which must not decide that float is shipped: time alone is asked here.
    settings += ["bench.rounds=200", "data.val_fraction=0.1", "budget.max_accuracy_drop=1.0"]
    built = build(_HERE, settings, folder / "store", folder / "out", arguments.target)
    pruning = built.report["pruning"]
    rows = {row["model"]: row["p50_ms"] for row in built.report["latency"]["rows"]}
    return {
        "kept": pruning["latency_kept"],
        "uncut_ms": rows["unpruned"],
        "int8_ms": rows["int8"],
        "rounds": pruning["latency"]["rounds"],
        "macs_kept": pruning["macs"] / pruning["macs_before"],
        "blocks_removed": pruning["blocks"],
        "seconds": round(built.seconds),
    }


def _few(data: Path, few: Path) -> None:
    """Link some images of each class."""
    for split, count in (("train", _TRAIN), ("test", _TEST)):
        for label in sorted(path for path in (data / split).iterdir() if path.is_dir()):
            (few / split / label.name).mkdir(parents=True)
            for image in sorted(label.iterdir())[:count]:
                (few / split / label.name / image.name).symlink_to(image.absolute())


if __name__ == "__main__":
    main()
