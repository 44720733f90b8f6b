"""Everything that a recipe (edgekd.toml) may say, and how it is read."""

from edgekd.recipe.basis import Arguments
from edgekd.recipe.losses import FeatureLoss, Hint, LogitLoss, Loss
from edgekd.recipe.networks import Model, Teacher, Transfer, least_top1
from edgekd.recipe.quantizing import Calibrator, Precision, Quantize
from edgekd.recipe.reading import FILE_NAME, alone, digits, file_name, load, parse
from edgekd.recipe.tables import (
    Alone,
    Bench,
    Budget,
    Compute,
    Data,
    Prune,
    Pruning,
    Recipe,
    Sparse,
)
from edgekd.recipe.training import Augment, Distill, Finetune, RandAugment, TeacherCache, Training

__all__ = [
    "FILE_NAME", "Alone", "Arguments", "Augment", "Bench", "Budget", "Calibrator", "Compute", "Data", "Distill",
    "FeatureLoss", "Finetune", "Hint", "LogitLoss", "Loss", "Model", "Precision", "Prune", "Pruning", "Quantize",
    "RandAugment", "Recipe", "Sparse", "Teacher", "TeacherCache", "Training", "Transfer", "alone", "digits",
    "file_name", "least_top1", "load", "parse",
]  # fmt: skip
