"""ResNet-56 on CIFAR-10 at 1 / 2.1 of its multiply-accumulates: what is left of its accuracy and of its time?

    python benchmarks/prune/resnet56.py DATA RESNET56.th [--store DIR] [--out DIR] [--target cpu-vnni]

Builds benchmarks/prune (25 minutes of recovery on 2 cores) and the same network uncut, measures both int8 files in
one interleaved run, and writes benchmarks/results/prune-resnet56.json.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from building import build, compare
from results import write

_HERE = Path(__file__).parent


def main() -> None:
    """Build both and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--store", type=Path, default=Path(".edgekd"))
    parser.add_argument("--out", type=Path, default=Path("dist"))
    parser.add_argument("--target", default="cpu-vnni")
    arguments = parser.parse_args()
    settings = [f"data.path={arguments.data.absolute()}", f"teacher.weights={arguments.weights.absolute()}"]
    cut = build(_HERE, settings, arguments.store, arguments.out, arguments.target)
    whole = build(_HERE / "uncut", settings, arguments.store, arguments.out, arguments.target)
    pruning = cut.report["pruning"]
    write(
        "prune-resnet56",
        {
            "top1": {**cut.top1, "uncut int8": whole.top1["int8"]},
            "macs_less": pruning["macs_before"] / pruning["macs"],
            "parameters": [pruning["parameters_before"], pruning["parameters"]],
            "blocks_removed": pruning["blocks"],
            "groups": pruning["groups"],
            "epochs": cut.report["training"]["recover"]["epochs"],
            "seconds": round(cut.seconds),
            "int8_against_uncut_int8": compare(cut.folder, whole.folder, arguments.target),
        },
    )


if __name__ == "__main__":
    main()
