"""Distillation losses, a pure function each."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def logit_kd(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float, label_smoothing: float = 0.0
) -> Tensor:
    """Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531), section 2.

    (1 - alpha) · T² · KL(softmax(teacher / T) || softmax(student / T)) + alpha · cross-entropy(student, labels)

    Shapes: student and teacher logits [B, classes], labels int64 [B]; the mean over the batch is returned. T² keeps
    the size of the soft gradient independent of T.
    """
    soft = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    hard = F.cross_entropy(student, labels, label_smoothing=label_smoothing)
    return (1 - alpha) * temperature**2 * soft + alpha * hard
