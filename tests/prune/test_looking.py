"""The images that pruning looks at."""

import numpy as np
import torch
from torch import nn

from edgekd.prune import batchnorm, looking
from edgekd.workload.dataset import Split
from edgekd.workload.normalisation import Normalisation

SIDE = 64
PLAIN = Normalisation(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def by_class(count: int) -> Split:
    """As a folder is read: class by class, each of its own brightness."""
    labels = np.sort(np.arange(count) % 10)
    noise = np.random.default_rng(0).integers(0, 20, (count, SIDE, SIDE, 3))
    return Split((noise + 20 * labels[:, None, None, None]).astype(np.uint8), labels)


def test_every_batch_holds_every_class() -> None:
    found = list(looking.batches(by_class(600), 600, PLAIN))
    assert len(found) == 3
    assert [len(labels) for _, labels in found] == [200, 200, 200]
    assert all(len(labels.unique()) == 10 for _, labels in found)


def test_images_keep_their_labels() -> None:
    for images, labels in looking.batches(by_class(40), 40, PLAIN):
        assert torch.equal((images.mean((1, 2, 3)) / 20).long(), labels)


def test_no_batch_is_a_single_image() -> None:
    sizes = [len(labels) for _, labels in looking.batches(by_class(257), 257, PLAIN)]
    assert sizes == [129, 128]


def test_statistics_are_those_of_all_classes_together() -> None:
    split = by_class(600)
    module = nn.Sequential(nn.BatchNorm2d(3))
    batchnorm.estimate(module, (images for images, _ in looking.batches(split, 600, PLAIN)))
    pixels = split.images.reshape(-1, 3).astype(np.float64)
    norm = module.get_submodule("0")
    assert np.allclose(norm.running_mean.numpy(), pixels.mean(0), rtol=1e-3)
    assert np.allclose(norm.running_var.numpy(), pixels.var(0), rtol=0.05)
    assert (norm.momentum, norm.training) == (0.1, False)
