"""The stage `prepare`: the user's data as uint8 arrays that every later stage reads."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekd.errors import DataError, EdgekdError, counted, listed
from edgekd.frames import said
from edgekd.recipe import Data
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.stage import Metrics, stage
from edgekd.workload import arrays, folder
from edgekd.workload.dataset import Dataset, LeftOut, Split
from edgekd.workload.digits import digits
from edgekd.workload.images import not_images
from edgekd.workload.splits import hold_out, stratified


@stage(writes="data", version=2, tools=("numpy", "pillow", "scikit-learn"))
def prepare(out: Path, run: Run, source: Path | Ref | str, val: Path | None, config: Data, calibration: int) -> Metrics:
    """Write <split>/images.npy (uint8 [N, H, W, 3]) and <split>/labels.npy for train, val, test and calibration.

    `source` is an image folder, a function that returns a Dataset, or "digits". The calibration images are drawn
    from train, seeded and stratified, never from test: all of train where it holds no more. Raises DataError.
    """
    data = _read(source, val, config, run)
    train, held = data.train, data.val
    if held is None:
        if round(config.val_fraction * len(train.labels)) >= len(train.labels) or len(train.labels) < 2:
            raise DataError(
                f"{len(train.labels)} training images leave none when {config.val_fraction:g} of them are held out",
                "add images, lower data.val_fraction, or name a data.val folder",
            )
        kept, out_of_train = hold_out(train.labels, config.val_fraction, config.seed)
        train, held = data.train.take(kept), data.train.take(out_of_train)
        _check_left(data, train, config)
    drawn = stratified(train.labels, min(calibration, len(train.labels)), config.seed)
    chosen = train.take(drawn)
    splits = {"train": train, "val": held, "test": data.test, "calibration": chosen}
    for name, split in splits.items():
        arrays.save(split, out / name)
    leaked = _in_both(data.train, data.test)
    if leaked:
        total = len(data.test.labels)
        run.say(f"warning: {len(leaked)} of {total} test images are also in train (same pixels): {listed(leaked)}")
    _say_left_out(data.left_out, run)
    return {
        "classes": list(data.classes),
        "images": {name: len(split.labels) for name, split in splits.items()},
        "test_images_in_train": len(leaked),
        "unreadable": len(data.left_out.unreadable),
        "val_from_train": data.val is None,
        "files": {**asdict(data.left_out), "test_images_in_train": leaked},
    }


def _say_left_out(files: LeftOut, run: Run) -> None:
    for names, noun, what in (
        (files.unreadable, "unreadable image", "left out"),
        (files.in_no_class, "image", "left out, beside the class folders"),
    ):
        if names:
            run.say(f"warning: {counted(len(names), noun)} {what}: {listed(names)}")
    if files.not_images:
        run.say(not_images(files.not_images))


@stage(writes="calibration", version=1, tools=("numpy",))
def draw(out: Path, run: Run, train: Path, count: int, seed: int) -> Metrics:
    """Write another draw of calibration images, stratified, from a prepared train split."""
    split = arrays.load(train)
    arrays.save(split.take(stratified(split.labels, count, seed)), out)
    return {"images": count}


def _read(source: Path | Ref | str, val: Path | None, config: Data, run: Run) -> Dataset:
    if isinstance(source, Path):
        return folder.read(source, val, config, run)
    if isinstance(source, str):
        return digits(config.shape)
    try:
        data = source.load()()
    except EdgekdError:
        raise
    except (Exception, SystemExit) as error:
        # The user's own code: it may raise anything.
        raise DataError(f'"{source.spec}" raised {said(error, source.folder)}', "mend the data function") from None
    if data is None:
        raise DataError(f'"{source.spec}" returned None', "forgot `return`? it must return an edgekd.Dataset")
    if not isinstance(data, Dataset):
        raise DataError(
            f'"{source.spec}" returned a {type(data).__name__}',
            "it must return an edgekd.Dataset(train, test, classes)",
        )
    for split in (data.train, data.test, *([data.val] if data.val else [])):
        height, width = split.images.shape[1:3]
        if (height, width) != config.shape:
            raise DataError(
                f'"{source.spec}" returned images of {height}×{width}, data.size is {list(config.shape)}',
                f"set data.size = [{height}, {width}] in the recipe, the same for every split",
            )
    return data


def _check_left(data: Dataset, train: Split, config: Data) -> None:
    """Raise DataError where all images of a class were held out."""
    before, after = (np.bincount(split.labels, minlength=len(data.classes)) for split in (data.train, train))
    for name, had, has in zip(data.classes, before, after, strict=True):
        if had and not has:
            raise DataError(
                f'too few images: class "{name}" has {had} in train, and none is left when {config.val_fraction:g} of '
                "train are held out for validation",
                "add images, or name a data.val folder",
            )


def _in_both(train: Split, test: Split) -> list[str]:
    """Return the names of the test images whose pixels are also in train, by content hash."""
    known = set(map(_digest, train.images))
    names = test.names or [f"test[{number}]" for number in range(len(test.labels))]
    return [name for name, image in zip(names, test.images, strict=True) if _digest(image) in known]


def _digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()
