"""Which loss for which pair? Every loss on one pair, by one schedule, over some seeds.

    python benchmarks/distill/losses.py DATA TEACHER.th [--images 4000] [--epochs 6] [--seeds 0 1 2] [--store DIR]

ResNet-56 teaches a ResNet-20 from scratch on the first IMAGES training images of CIFAR-10, evenly over the classes;
judged on all test images, the last epoch each. Weights are the recipe's defaults (those of the papers' own code), but
for `alpha`: 0.1 beside kd as in Hinton's setting, 1 beside every other loss. Writes
benchmarks/results/distill-losses.json; about twenty minutes on 2 cores, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import write

import edgekd
from edgekd import recipe as recipes

_LAST = {"student": "layer3", "teacher": "layer3"}
_MIDDLE = {"student": "layer2", "teacher": "layer2"}
_EACH_STAGE = [{"student": f"layer{number}", "teacher": f"layer{number}"} for number in (1, 2, 3)]
_KD = {"kind": "kd", "weight": 0.9}

# Name: (weight of the labels, losses).
_ARMS: dict[str, tuple[float, list[dict[str, Any]]]] = {
    "labels alone": (1.0, []),
    "kd": (0.1, [_KD]),
    "kd standardized": (0.1, [{**_KD, "weight": 9.0, "temperature": 2.0, "standardize": True}]),
    "dkd": (1.0, [{"kind": "dkd"}]),
    "dist": (1.0, [{"kind": "dist"}]),
    "mse": (1.0, [{"kind": "mse"}]),
    "hint": (1.0, [{"kind": "hint", **_MIDDLE}]),
    "attention": (1.0, [{"kind": "attention", **stage} for stage in _EACH_STAGE]),
    "rkd": (1.0, [{"kind": "rkd", **_LAST}]),
    "sp": (1.0, [{"kind": "sp", **_LAST}]),
}


def main() -> None:
    """Train every arm once a seed, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--store", type=Path, default=Path(".edgekd"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        few(arguments.data.absolute(), Path(folder), arguments.images)
        rows = {name: trained(arm, Path(folder), arguments) for name, arm in _ARMS.items()}
    keys = ("images", "epochs", "seeds")
    write("distill-losses", {**{key: getattr(arguments, key) for key in keys}, "losses": rows})


def few(data: Path, folder: Path, images: int) -> None:
    """Link so many training images, evenly over the classes, and all test images."""
    (folder / "test").symlink_to(data / "test")
    classes = sorted((data / "train").iterdir())
    for each in classes:
        (folder / "train" / each.name).mkdir(parents=True)
        for file in sorted(each.iterdir())[: images // len(classes)]:
            (folder / "train" / each.name / file.name).symlink_to(file)


def trained(arm: tuple[float, list[dict[str, Any]]], data: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Build one arm; return mean and spread."""
    alpha, losses = arm
    weights = str(arguments.teacher.absolute())
    pixels = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    distill: dict[str, Any] = {
        "epochs": arguments.epochs, "batch": 64, "lr": 0.1, "schedule": "one-cycle", "clip": 5.0, "select": "last",
        "alpha": alpha, "loss": losses, "seeds": arguments.seeds,
    }  # fmt: skip
    if all("student" not in loss for loss in losses):
        distill["teacher_cache"] = {"views": arguments.epochs}  # as many as epochs: the same numbers, sooner
    values = {
        "name": "losses",
        "data": {"path": str(data), "size": 32, "val_fraction": 0.02},
        "teacher": {"model": "edgekd.models:resnet56", "weights": weights, **pixels},
        "student": {"model": "edgekd.models:resnet20"},
        "distill": distill,
        "bench": {"rounds": 5, "warmup": 1},
    }
    with tempfile.TemporaryDirectory() as out:
        recipe = recipes.parse(values, "losses", Path.cwd())
        built = edgekd.build(recipe, ["cpu"], Path(out), arguments.store)
    (spread,) = built.bundles[0].report.seeds
    found = spread.model_dump(exclude={"row"})
    print(losses, found, flush=True)
    return found


if __name__ == "__main__":
    main()
