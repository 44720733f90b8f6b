"""How long does a cut take? ResNet-50 at 224×224 to half its multiply-accumulates, without recovery.

    python benchmarks/prune/resnet50.py

The stage prune on random weights, from reading the network to writing the narrower one, by importances alone
(ranking "global") and by measured damage (the default). Writes benchmarks/results/prune-resnet50.json.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from edgekd.models import network
from edgekd.models.network import Plan
from edgekd.prune.stage import prune
from edgekd.recipe import Compute, Prune
from edgekd.ref import resolve
from edgekd.run import Run
from edgekd.train.device import resolve as place_of
from edgekd.workload import arrays
from edgekd.workload.dataset import Split

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import write

_MODEL = "torchvision.models:resnet50"
_IMAGES, _SIDE = 64, 224
RANKINGS: tuple[Literal["global", "sensitivity"], ...] = ("global", "sensitivity")


def main() -> None:
    """Cut by both rankings."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = np.random.default_rng(0).integers(0, 256, (_IMAGES, _SIDE, _SIDE, 3), np.uint8)
        arrays.save(Split(images, np.arange(_IMAGES) % 10), folder / "train")
        code = resolve(_MODEL, folder)
        torch.manual_seed(0)
        network.save(network.build(Plan(model=_MODEL), code), folder / "whole")
        rows = {}
        for ranking in RANKINGS:
            start = time.perf_counter()
            found = prune.function(
                folder / ranking, Run(), folder / "whole", code, folder / "train", None, (),
                Prune(keep_macs=0.5, ranking=ranking), place_of(Compute()),
            )  # fmt: skip
            seconds = round(time.perf_counter() - start, 1)
            rows[ranking] = {"seconds": seconds, "macs_kept": found["macs"] / found["macs_before"]}
            rows[ranking]["blocks_removed"] = len(found["blocks"])
    write("prune-resnet50", rows)


if __name__ == "__main__":
    main()
