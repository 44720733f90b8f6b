"""Networks that a recipe can name: the CIFAR ResNets, and the two of the built-in digits example."""

from edgekd.models.cifar_resnet import resnet20, resnet32, resnet44, resnet56
from edgekd.models.digits import digits_student, digits_teacher

__all__ = ["digits_student", "digits_teacher", "resnet20", "resnet32", "resnet44", "resnet56"]
