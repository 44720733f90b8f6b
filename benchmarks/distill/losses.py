"""Which loss for which pair? Every loss on one pair, by one schedule, over some seeds.

    python benchmarks/distill/losses.py DATA TEACHER.th [--images 4000] [--epochs 6] [--seeds 0 1 2] [--store DIR]

ResNet-56 teaches a ResNet-20 from scratch on the first IMAGES training images of CIFAR-10, evenly over the classes;
judged on all test images, the last epoch each. Weights are the recipe's defaults (those of the papers' own code), but
for `alpha`: 0.1 beside kd as in Hinton's setting, 1 beside every other loss. Then ResNet-56 itself, cut to half of its
multiply-accumulates, recovers for 2 epochs on the same images: with and without a hint, and with its regressor.

Each row has the p values of Welch's t-test (two-sided, over the seeds) against the rows that it is compared with. They
are per row, not corrected for the number of rows. Writes benchmarks/results/distill-losses.json; about half an hour
on 2 cores, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from results import write
from scipy import stats

import edgekd
from edgekd import recipe as recipes

_LAST = {"student": "layer3", "teacher": "layer3"}
_MIDDLE = {"student": "layer2", "teacher": "layer2"}
_EACH_STAGE = [{"student": f"layer{number}", "teacher": f"layer{number}"} for number in (1, 2, 3)]
_KD = {"kind": "kd", "weight": 0.9}

# Name: (weight of the labels, losses).
_Arm = tuple[float, list[dict[str, Any]]]
_FROM_SCRATCH: dict[str, _Arm] = {
    "labels alone": (1.0, []),
    "kd": (0.1, [_KD]),
    "kd standardized": (0.1, [{**_KD, "weight": 9.0, "temperature": 2.0, "standardize": True}]),
    "dkd": (1.0, [{"kind": "dkd"}]),
    "dkd, beta 8": (1.0, [{"kind": "dkd", "beta": 8.0}]),
    "dist": (1.0, [{"kind": "dist"}]),
    "mse": (1.0, [{"kind": "mse"}]),
    "hint": (1.0, [{"kind": "hint", "regressor": False, **_MIDDLE}]),
    "hint, regressor": (1.0, [{"kind": "hint", "regressor": True, **_MIDDLE}]),
    "attention": (1.0, [{"kind": "attention", **stage} for stage in _EACH_STAGE]),
    "rkd": (1.0, [{"kind": "rkd", **_LAST}]),
    "sp": (1.0, [{"kind": "sp", **_LAST}]),
}
_RECOVERY: dict[str, _Arm] = {
    "kd": (0.1, [_KD]),
    "kd and hint": (0.1, [_KD, {"kind": "hint", "weight": 10.0, "regressor": False, **_LAST}]),
    "kd and hint, regressor": (0.1, [_KD, {"kind": "hint", "weight": 10.0, "regressor": True, **_LAST}]),
}
# Two variants of one loss, beside the comparison with the first row.
_VARIANT_OF = {"dkd, beta 8": "dkd", "hint, regressor": "hint", "kd and hint, regressor": "kd and hint"}
_RECOVERY_EPOCHS = 2


def main() -> None:
    """Train every arm once a seed, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--store", type=Path, default=Path(".edgekd"))
    arguments = parser.parse_args()
    if len(arguments.seeds) < 2:
        parser.error("a test of significance takes two seeds at least")
    with tempfile.TemporaryDirectory() as folder:
        few(arguments.data.absolute(), Path(folder), arguments.images)
        losses = {name: trained(arm, Path(folder), arguments) for name, arm in _FROM_SCRATCH.items()}
        recovery = {name: recovered(arm, Path(folder), arguments) for name, arm in _RECOVERY.items()}
    settings = {key: getattr(arguments, key) for key in ("images", "epochs", "seeds", "threads")}
    tables = {"losses": tested(losses), "recovery_epochs": _RECOVERY_EPOCHS, "recovery": tested(recovery)}
    write("distill-losses", {**settings, **tables})


def tested(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add the p values of Welch's t-test against the first row, and against the loss that a row is a variant of."""
    first = next(iter(rows))
    return {
        name: {**row, "p": {other: welch(row, rows[other]) for other in (first, _VARIANT_OF.get(name)) if other}}
        if name != first
        else row
        for name, row in rows.items()
    }


def welch(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the two-sided p value: how likely two equal means differ as much over so few seeds."""
    return float(stats.ttest_ind(one["top1"], other["top1"], equal_var=False).pvalue)


def few(data: Path, folder: Path, images: int) -> None:
    """Link so many training images, evenly over the classes, and all test images."""
    (folder / "test").symlink_to(data / "test")
    classes = sorted((data / "train").iterdir())
    for each in classes:
        (folder / "train" / each.name).mkdir(parents=True)
        for file in sorted(each.iterdir())[: images // len(classes)]:
            (folder / "train" / each.name / file.name).symlink_to(file)


def trained(arm: _Arm, data: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Build one arm from scratch; return mean and spread."""
    alpha, losses = arm
    distill: dict[str, Any] = {
        "epochs": arguments.epochs, "batch": 64, "lr": 0.1, "schedule": "one-cycle", "clip": 5.0, "select": "last",
        "alpha": alpha, "loss": losses, "seeds": arguments.seeds,
    }  # fmt: skip
    if all("student" not in loss for loss in losses):
        distill["teacher_cache"] = {"views": arguments.epochs}  # as many as epochs: the same numbers, sooner
    return built({"student": {"model": "edgekd.models:resnet20"}, "distill": distill}, data, arguments)


def recovered(arm: _Arm, data: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Cut the teacher and recover it by one arm; return mean and spread."""
    alpha, losses = arm
    recovery = {
        "epochs": _RECOVERY_EPOCHS, "batch": 64, "lr": 0.03, "clip": 5.0, "select": "last",
        "alpha": alpha, "loss": losses, "seeds": arguments.seeds,
    }  # fmt: skip
    return built({"prune": {"keep_macs": 0.5, "recovery": recovery}}, data, arguments)


def built(training: dict[str, Any], data: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Build a recipe with these tables; return mean and spread of what they train."""
    pixels = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
    values = {
        "name": "losses",
        "data": {"path": str(data), "size": 32, "val_fraction": 0.02},
        "teacher": {"model": "edgekd.models:resnet56", "weights": str(arguments.teacher.absolute()), **pixels},
        "quantize": {"precision": "float"},  # the seeds' accuracies are of float networks
        "bench": {"rounds": 5, "warmup": 1},
        "compute": {"threads": arguments.threads},
        **training,
    }
    with tempfile.TemporaryDirectory() as out:
        recipe = recipes.parse(values, "losses", Path.cwd())
        (bundle,) = edgekd.build(recipe, ["cpu"], Path(out), arguments.store).bundles
    (spread,) = bundle.report.seeds
    found = spread.model_dump(exclude={"row"})
    print(training, found, flush=True)
    return found


if __name__ == "__main__":
    main()
