"""At equal latency, which budget keeps more accuracy: latency or multiply-accumulates?

    python benchmarks/prune/curve.py DATA RESNET56.th [--epochs 2] [--store DIR] [--out DIR] [--jobs 2]

Cuts ResNet-56 to three budgets of each kind, recovers each for a few epochs under the uncut network, and measures all
int8 files and the uncut one in one interleaved run. `--jobs` builds run at once, each on a core of its own. Writes
benchmarks/results/prune-curve.json and prune-curve.svg; the accuracy of either kind at the other's latencies is
interpolated, with the Wilson intervals of 10,000 test images.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np

from edgekd import target as targets
from edgekd.bench.measure import measure
from edgekd.recipe import Bench
from edgekd.runtime import settings_of

sys.path.insert(0, str(Path(__file__).parent.parent))
from building import Built, build
from results import FOLDER, write

_HERE = Path(__file__).parent
_BUDGETS = {"keep_latency": (0.7, 0.5, 0.35), "keep_macs": (0.7, 0.5, 0.35)}


def main() -> None:
    """Build all, measure all, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path(".edgekd"))
    parser.add_argument("--out", type=Path, default=Path("dist"))
    parser.add_argument("--target", default="cpu-vnni")
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    wanted = [(key, keep) for key, budgets in _BUDGETS.items() for keep in budgets]
    cores: Queue[int] = Queue()
    for core in range(arguments.jobs):
        cores.put(core)

    def run(each: tuple[str, float]) -> Built:
        core = cores.get()
        try:
            return _build(arguments, *each, core)
        finally:
            cores.put(core)

    settings = _base(arguments)
    uncut = build(_HERE / "uncut", settings, arguments.store, arguments.out, arguments.target)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        built = dict(zip(wanted, pool.map(run, wanted), strict=True))
    files = {"uncut": uncut.folder / "model.onnx"}
    files |= {f"{key} {keep}": found.folder / "model.onnx" for (key, keep), found in built.items()}
    run_ = measure(files, settings_of(targets.load(arguments.target).runtime), Bench(rounds=200))
    rows = [_row(key, keep, found, run_.latency_ms[f"{key} {keep}"].p50.value) for (key, keep), found in built.items()]
    whole_ms = run_.latency_ms["uncut"].p50.value
    for row in rows:
        row["latency_kept"] = row["p50_ms"] / whole_ms
    uncut_row = {"p50_ms": whole_ms, "top1": uncut.top1["int8"]}
    compared = [_against(row, rows) for row in rows if row["budget"] == "keep_latency"]
    write("prune-curve", {"epochs": arguments.epochs, "uncut": uncut_row, "rows": rows, "at_equal_latency": compared})
    _plot(rows, uncut_row, FOLDER / "prune-curve.svg")


def _base(arguments: argparse.Namespace) -> list[str]:
    return [f"data.path={arguments.data.absolute()}", f"teacher.weights={arguments.weights.absolute()}"]


def _build(arguments: argparse.Namespace, key: str, keep: float, core: int) -> Built:
    """Build one, on a core of its own where several run at once."""
    other = "keep_macs" if key == "keep_latency" else ""
    settings = [*_base(arguments), f"name={key}-{keep}", f"prune.{key}={keep}"]
    settings += ["prune.recovery.budget=", f"prune.recovery.epochs={arguments.epochs}"]
    settings += [f"prune.{other}=1.0"] if other else []
    if arguments.jobs > 1:
        os.sched_setaffinity(0, {core})  # of this thread, which the command inherits
        os.environ["OMP_NUM_THREADS"] = "1"
    store = arguments.store.with_name(f"{arguments.store.name}-{core}") if arguments.jobs > 1 else arguments.store
    return build(_HERE, settings, store, arguments.out, arguments.target)


def _row(key: str, keep: float, built: Built, p50: float) -> dict[str, Any]:
    shipped = built.report["accuracy"][-1]
    pruning = built.report["pruning"]
    return {
        "budget": key,
        "keep": keep,
        "top1": shipped["top1"],
        "interval": [shipped["low"], shipped["high"]],
        "p50_ms": p50,
        "macs_kept": pruning["macs"] / pruning["macs_before"],
        "blocks_removed": len(pruning["blocks"]),
        "seconds": round(built.seconds),
    }


def _against(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Return the accuracy of a cut by latency beside that of cuts by work at the same latency, between their points."""
    others = sorted((other for other in rows if other["budget"] == "keep_macs"), key=lambda other: other["p50_ms"])
    across = [other["p50_ms"] for other in others]
    if not across[0] <= row["p50_ms"] <= across[-1]:
        return {"p50_ms": row["p50_ms"], "by_latency": row["top1"], "by_macs": None, "gain": None}
    by_work = float(np.interp(row["p50_ms"], across, [other["top1"] for other in others]))
    return {"p50_ms": row["p50_ms"], "by_latency": row["top1"], "by_macs": by_work, "gain": row["top1"] - by_work}


def _plot(rows: list[dict[str, Any]], uncut: dict[str, float], file: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - of this plot alone

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "edgekd"
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for (key, name), colour, marker in zip(
        (("keep_latency", "budget of latency"), ("keep_macs", "budget of MACs")), ("#0a6", "#a40"), "os", strict=True
    ):
        points = sorted((row for row in rows if row["budget"] == key), key=lambda row: row["p50_ms"])
        middle = [100 * row["top1"] for row in points]
        low = [100 * (row["top1"] - row["interval"][0]) for row in points]
        high = [100 * (row["interval"][1] - row["top1"]) for row in points]
        axes.errorbar(
            [row["p50_ms"] for row in points],
            middle,
            yerr=[low, high],
            marker=marker,
            color=colour,
            capsize=3,
            label=name,
        )
    axes.plot([uncut["p50_ms"]], [100 * uncut["top1"]], "k*", markersize=10, label="uncut")
    axes.set_xlabel("int8 latency on this host, p50, ms")
    axes.set_ylabel("top-1 on CIFAR-10's test images, %")
    axes.set_title("ResNet-56 cut to budgets, int8, with 95 % intervals")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()
