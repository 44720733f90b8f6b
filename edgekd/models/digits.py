"""The teacher and the student of the built-in digits example."""

from __future__ import annotations

from edgekd.models.cifar_resnet import CifarResNet


def digits_teacher(num_classes: int = 10) -> CifarResNet:
    """A ResNet-8 of widths 32, 64, 128."""
    return CifarResNet(1, num_classes, widths=(32, 64, 128))


def digits_student(num_classes: int = 10) -> CifarResNet:
    """A ResNet-8 of widths 16, 32, 64."""
    return CifarResNet(1, num_classes, widths=(16, 32, 64))
