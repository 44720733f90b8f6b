"""What does a width cost? The time of one int8 convolution against its channels: why widths come in blocks of 16.

    python benchmarks/prune/widths.py [--target cpu-vnni]

3×3 convolutions with as many outputs as inputs, in steps of 4, on images of three sizes; each as a graph of its own,
interleaved. Writes benchmarks/results/prune-widths.json: microseconds, and per channel squared.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edgekd import target as targets
from edgekd.bench.layers import Conditions, measure
from edgekd.latency import Layer
from edgekd.runtime import settings_of

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import write

_SIZES, _MOST, _STEP = (32, 16, 8), 64, 4


def main() -> None:
    """Measure each size at all pairs of widths, and keep those with as many outputs as inputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cpu-vnni")
    target = targets.load(parser.parse_args().target)
    activations = target.int8.activations if target.int8 else "uint8"
    conditions = Conditions(settings_of(target.runtime), "int8", _STEP, activations, most=_MOST // _STEP)
    layers = {
        str(size): Layer(kind="conv", inputs=_MOST, outputs=_MOST, kernel=(3, 3), padding=(1, 1), size=(size, size))
        for size in _SIZES
    }
    table = measure(layers, conditions)
    widths = table.grids[0].outputs
    found = {
        name: {width: grid.microseconds[index][index] for index, width in enumerate(widths)}
        for name, grid in zip(layers, table.grids, strict=True)
    }
    full = {name: times[_MOST] / _MOST**2 for name, times in found.items()}
    dearer = {
        name: {width: round(time / width**2 / full[name], 2) for width, time in times.items()}
        for name, times in found.items()
    }
    write("prune-widths", {"target": target.name, "microseconds": found, "per_mac_against_64": dearer})


if __name__ == "__main__":
    main()
