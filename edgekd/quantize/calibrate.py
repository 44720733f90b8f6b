"""The stage `calibrate`: what each tensor of a repaired graph takes for values, for any policy and any target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgekd.quantize import ranges, settled
from edgekd.quantize.grid import Grid, of_activation
from edgekd.quantize.observing import Counting, Observed, observe
from edgekd.quantize.settled import Settled
from edgekd.recipe import Calibrator, Quantize
from edgekd.run import Progress, Run
from edgekd.stage import Metrics, stage
from edgekd.target import Int8

COUNTED: Mapping[Calibrator, Counting] = {"min-max": "none", "mse": "sample", "percentile": "all", "entropy": "all"}
"""What a calibrator needs counted."""


@stage(writes="observed.npz", version=3, tools=("onnxruntime", "numpy"))
def calibrate(out: Path, run: Run, repaired: Path, samples: Path, counting: Counting, kernels: str) -> Metrics:
    """Write what the calibration images make of every tensor: ranges, mean patches, histograms.

    Raises ModelError for values that are no finite numbers, naming the tensor and the image.
    """
    found = settled.load(repaired)
    feed = found.entry.feed(samples)

    def show(done: int, total: int) -> None:
        run.show(Progress("calibrate", done, total, f"{feed.count} images"))

    observed = observe(found.model, found.tensors, feed, counting, show)
    observed.save(out)
    return {"images": observed.images, "tensors": len(observed.low), "counting": counting}


def grids_of(observed: Observed, found: Settled, policy: Int8, config: Quantize) -> dict[str, Grid]:
    """Return the grid of every activation by the calibrator that `config` names, which is none of several."""
    grids = {name: of_activation(*range_of(observed, name, policy, config), policy) for name in found.tensors}
    if found.entry.kind == "absorbed":
        # The pixels' own grid: they enter the first integer convolution as they are.
        grids[found.entry.name] = Grid(found.entry.scale, found.entry.zero_point, 0, 255)
    return grids


def range_of(observed: Observed, name: str, policy: Int8, config: Quantize) -> ranges.Range:
    """Return one tensor's range by the calibrator."""
    least, most = observed.low[name], observed.high[name]
    if config.calibrator == "min-max" or name not in observed.counts:
        return least, most
    seen = observed.counts[name]

    def grid(low: float, high: float) -> Grid:
        return of_activation(low, high, policy)

    if config.calibrator == "percentile":
        if config.percentile == 100:
            return least, most  # a bin's edge may be a rounding error inside
        found = ranges.percentile(seen.counts, seen.low, seen.high, config.percentile)
    elif config.calibrator == "mse":
        found = ranges.mse(seen.counts, seen.low, seen.high, grid)
    else:
        found = ranges.entropy(seen.counts, seen.low, seen.high, grid)
    # The first and last bin reach beyond what was seen.
    return max(found[0], least), min(found[1], most)
