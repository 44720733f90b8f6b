"""Whether the guard's measure tells files that keep their task from files that do not, where no budget is set.

    python benchmarks/quantize/separation.py ANSWERS

ANSWERS is the folder that spoiled.py wrote. For each variant: what it loses by edgekd's measure, beside the verdict of
its own task (detections, masks, signs). Variants whose quantizer or weights are at fault are what a guard meets; those
whose answers themselves were changed, by noise or otherwise, are counted apart. Classifiers are judged by their argmax
and need no such measure. Writes benchmarks/results/quantize-separation.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import write

from edgekd.quantize.divergence import Measure
from edgekd.ship import DROP_OF_VARIANCE

_CHANGED_ANSWERS = "answers"
_CLASSIFIES = "agreement"


def main() -> None:
    """Measure every variant and count where the default bound falls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("answers", type=Path)
    folder = parser.parse_args().answers
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    floats = {row["model"]: folder / row["file"] for row in index if row["variant"] == "float"}
    rows = [
        row_of(row, floats[row["model"]], folder)
        for row in index
        if row["variant"] != "float" and "file" in row and row["model"] in floats and _CLASSIFIES not in row["quality"]
    ]
    rows.sort(key=lambda row: row["lost"])
    counts = {kind: counted(rows, kind == "answers") for kind in ("quantizers and weights", "answers")}
    write("quantize-separation", {"bound": DROP_OF_VARIANCE, "counts": counts, "rows": rows}, quiet=True)
    print(json.dumps(counts, indent=1))


def row_of(row: dict[str, Any], parent: Path, folder: Path) -> dict[str, Any]:
    """Return one variant's loss beside its own task's verdict."""
    outputs = Measure().differences(read(parent), read(folder / row["file"]))
    worst = max(outputs, key=lambda each: each.lost)
    kept = {key: row[key] for key in ("model", "variant", "verdict", "quality")}
    return {**kept, "lost": worst.lost, "of": worst.words}


def read(file: Path) -> dict[str, NDArray[Any]]:
    """Return the answers by output."""
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def counted(rows: list[dict[str, Any]], changed_answers: bool) -> dict[str, dict[str, int]]:
    """Return by verdict how many variants would ship and how many would not."""
    found: dict[str, Counter[str]] = {"good": Counter(), "between": Counter(), "broken": Counter()}
    for row in rows:
        if row["variant"].startswith(_CHANGED_ANSWERS) == changed_answers and row["verdict"] in found:
            found[row["verdict"]]["ships" if row["lost"] <= DROP_OF_VARIANCE else "stays"] += 1
    return {verdict: dict(sorted(counter.items())) for verdict, counter in found.items()}


if __name__ == "__main__":
    main()
