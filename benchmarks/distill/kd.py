"""What does the teacher add? ResNet-20 on CIFAR-10 under ResNet-56, and by the same schedule without a teacher.

    python benchmarks/distill/kd.py DATA TEACHER.th STUDENT.th [--seeds 0 1] [--store DIR] [--set KEY=VALUE ...]

Builds benchmarks/distill once per seed with the teacher and once with the labels alone (alpha = 1), about 20 minutes
each on 2 cores, and writes benchmarks/results/distill-kd.json: accuracies on the test images, means, and the seconds
of each whole build, the teacher's cache and the evaluation among them.

From scratch, where an accelerator is at hand:

    python benchmarks/distill/kd.py DATA TEACHER.th "" --seeds 0 1 2 --name distill-scratch --set distill.epochs=240 \
        --set distill.lr=0.1 --set 'distill.teacher_cache={views=240}'
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from building import build
from results import write

_HERE = Path(__file__).parent


def main() -> None:
    """Build by turns and collect."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("student", help='weights to start from; "" to start from scratch')
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--store", type=Path, default=Path(".edgekd"))
    parser.add_argument("--name", default="distill-kd")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    student = Path(arguments.student).absolute() if arguments.student else ""
    base = [f"data.path={arguments.data.absolute()}", f"teacher.weights={arguments.teacher.absolute()}"]
    base += [f"student.weights={student}", *arguments.settings]
    runs: dict[str, list[dict[str, Any]]] = {"under_teacher": [], "labels_alone": []}
    for seed in arguments.seeds:
        for name, alpha in (("under_teacher", None), ("labels_alone", "distill.alpha=1.0")):
            settings = [*base, f"distill.seed={seed}", *([alpha] if alpha else [])]
            runs[name].append(built(settings, arguments.store))
            print(name, seed, runs[name][-1], flush=True)
    means = {name: statistics.fmean(run["top1"] for run in found) for name, found in runs.items()}
    gain = means["under_teacher"] - means["labels_alone"]
    write(arguments.name, {"seeds": arguments.seeds, "means": means, "gain": gain, "runs": runs})


def built(settings: list[str], store: Path) -> dict[str, Any]:
    """Build once; return the student's accuracy on test, the teacher's, and what it took."""
    with tempfile.TemporaryDirectory() as out:
        done = build(_HERE, settings, store, Path(out), "cpu")
    rows = {row["stage"]: row for row in done.report["accuracy"]}
    return {
        "top1": rows["student"]["top1"],
        "interval": [rows["student"]["low"], rows["student"]["high"]],
        "teacher": rows["teacher"]["top1"],
        "epochs": done.report["training"]["distill"]["epochs"],
        "seconds": round(done.seconds),
        "trained": "distill runs:" in done.said,
    }


if __name__ == "__main__":
    main()
