"""Distillation losses, a pure function each, which returns a scalar: 0 where student and teacher are equal.

Of logits: (student [B, classes], teacher [B, classes], labels int64 [B], …). Of features: (student, teacher, …), whose
shapes each one names. A function's name is its `kind` in the recipe, its further parameters are that kind's keys.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_ROUNDING = 1e-6


def standardized(logits: Tensor) -> Tensor:
    """Sun et al. 2024, "Logit Standardization in Knowledge Distillation" (arXiv:2403.01427): (z - mean(z)) / std(z).

    Per row of [B, classes], with the deviation of the authors' code (sums over the number of classes less one, as
    torch.std); zeros for a row that does not vary. Any of the logit losses may be taken on these: it then no longer
    sees a row's shift and scale, which a small student need not copy. Of two classes only the order would be left.
    """
    return math.sqrt(logits.shape[1] - 1) * _unit(logits - logits.mean(1, keepdim=True), logits)


def kd(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531), section 2.

    T² · KL(softmax(teacher / T) || softmax(student / T)), the mean over the batch. T² keeps the size of the gradient
    independent of T; for T → ∞ it becomes the squared difference of centred logits over 2 · classes.
    """
    return temperature**2 * _divergence(
        F.log_softmax(student / temperature, dim=1), F.log_softmax(teacher / temperature, dim=1)
    )


def dkd(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float, beta: float) -> Tensor:
    """Zhao et al. 2022, "Decoupled Knowledge Distillation" (arXiv:2203.08679), equation 7: T² · (α · TCKD + β · NCKD).

    TCKD: KL between (labelled class, all others together). NCKD: KL among the others, the labelled class left out.
    With α = 1 and β = 1 - p(labelled class | teacher) of each image it would be `kd`. In the authors' settings for
    CIFAR-100 (megvii-research/mdistiller) α is 1 and T is 4, and β depends on the pair: 2 for ResNet-56 → 20 and
    ResNet-110 → 32, 6 for VGG-13 → VGG-8 and WRN-40-2 → WRN-16-2, 8 for ResNet-32x4 → ResNet-8x4. They also raise the
    weight of the whole loss linearly over the first 20 of 240 epochs; nothing here does.
    """
    scaled_student, scaled_teacher = student / temperature, teacher / temperature
    labelled = F.one_hot(labels, student.shape[1]).bool()
    target = _divergence(_label_or_not(scaled_student, labelled), _label_or_not(scaled_teacher, labelled))
    others = _divergence(_others(scaled_student, labelled), _others(scaled_teacher, labelled))
    return temperature**2 * (alpha * target + beta * others)


def dist(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, beta: float, gamma: float) -> Tensor:
    """Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher" (arXiv:2205.10536), equations 8 to 10.

    T² · (β · mean over images of (1 - ρ(rows)) + γ · mean over classes of (1 - ρ(columns))) of softmax(· / T), with
    Pearson's ρ. What matters is how classes and images relate, not that the probabilities are the same. A row or column
    that does not vary has no relation: it counts ρ = 0, even where both do not.
    """
    p, q = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    between_classes = 1 - _pearson(p, q)
    within_class = 1 - _pearson(p.T, q.T)
    return temperature**2 * (beta * between_classes.mean() + gamma * within_class.mean())


def mse(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Ba & Caruana 2014, "Do Deep Nets Really Need to be Deep?" (arXiv:1312.6184): the mean of (student - teacher)²."""
    return F.mse_loss(student, teacher)


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Romero et al. 2014, "FitNets: Hints for Thin Deep Nets" (arXiv:1412.6550), equation 3: mean squares.

    Feature maps of equal shape; where widths differ, or the recipe asks for it (`regressor`), the student's went
    through a trained 1×1 convolution before.
    """
    return F.mse_loss(student, teacher)


def attention(student: Tensor, teacher: Tensor, power: float) -> Tensor:
    """Zagoruyko & Komodakis 2017, "Paying More Attention to Attention" (arXiv:1612.03928), as in the authors' code.

    Feature maps [B, C, H, W] of equal H and W, any C: the mean over [B, H · W] of (Q_s/‖Q_s‖ - Q_t/‖Q_t‖)², where Q is
    the map Σ_c |F_c|^p, flattened (section 3.1). That is `at_loss` of szagoruyko/attention-transfer, for which the
    default weight of 1000 is meant. Equation 2 of the paper is another loss: the norm ‖Q_s/‖Q_s‖ - Q_t/‖Q_t‖‖ of each
    image, neither squared nor divided by H · W. Scaling either side leaves both as they are.
    """
    return F.mse_loss(_attention_map(student, power), _attention_map(teacher, power))


def rkd(student: Tensor, teacher: Tensor, distance: float, angle: float) -> Tensor:
    """Park et al. 2019, "Relational Knowledge Distillation" (arXiv:1904.05068), equations 5 to 10, with Huber's loss.

    Outputs [B, D], or feature maps [B, D, …] averaged over their pixels: distance · (pairwise distances over their
    mean) + angle · (cosines of the angles that triples of images span). Invariant to rotation, shift and scale. Holds
    B² · D and B³ numbers.
    """
    p, q = _pooled(student), _pooled(teacher)
    return distance * F.smooth_l1_loss(_distances(p), _distances(q)) + angle * F.smooth_l1_loss(_angles(p), _angles(q))


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    """Tung & Mori 2019, "Similarity-Preserving Knowledge Distillation" (arXiv:1907.09682), equation 4.

    Outputs [B, …], flattened per image: ‖G_s - G_t‖² / B², G the B×B Gram matrix with rows divided by their length.
    Invariant to rotation and scale.
    """
    return F.mse_loss(_similarities(student.flatten(1)), _similarities(teacher.flatten(1)))


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return KL(teacher || student) of rows of log-probabilities, the mean over the batch."""
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def _label_or_not(logits: Tensor, labelled: Tensor) -> Tensor:
    """Return log-probabilities [B, 2]: of the labelled class, and of all others together."""
    log = F.log_softmax(logits, dim=1)
    of_others = log.masked_fill(labelled, -torch.inf).logsumexp(1)
    return torch.stack((log[labelled], of_others), dim=1)


def _others(logits: Tensor, labelled: Tensor) -> Tensor:
    """Return log-probabilities [B, classes - 1] among the classes that are not the labelled one."""
    return F.log_softmax(logits[~labelled].view(len(logits), -1), dim=1)


def _pearson(p: Tensor, q: Tensor) -> Tensor:
    """Return the correlation of each row of p with that of q; 0, and no gradient, where one does not vary."""
    return (_unit(p - p.mean(1, keepdim=True), p) * _unit(q - q.mean(1, keepdim=True), q)).sum(1)


def _unit(vectors: Tensor, scale: Tensor) -> Tensor:
    """Return vectors divided by their lengths along the last axis; zeros where a length is but rounding of `scale`.

    A vector of length 0 has no direction, and next to it the gradient of one has no bound.
    """
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    least = _ROUNDING * torch.linalg.vector_norm(scale.detach(), dim=-1, keepdim=True).amax()
    has_direction = lengths > least
    return torch.where(has_direction, vectors / torch.where(has_direction, lengths, 1.0), 0.0)


def _attention_map(features: Tensor, power: float) -> Tensor:
    maps = features.abs().pow(power).sum(1).flatten(1)
    return _unit(maps, maps)


def _pooled(features: Tensor) -> Tensor:
    return features.flatten(2).mean(2) if features.ndim > 2 else features


def _distances(rows: Tensor) -> Tensor:
    """Return all pairwise distances over the mean of those between different images, [B, B]."""
    # By differences: the faster product of matrices loses what near images differ by.
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = len(rows) * (len(rows) - 1)
    return distances / (distances.sum() / max(1, pairs)).clamp_min(1e-12)


def _angles(rows: Tensor) -> Tensor:
    """Return cos of the angle at image i between images j and k, [B, B, B]."""
    towards = _unit(rows[None, :, :] - rows[:, None, :], rows)
    return towards @ towards.transpose(1, 2)


def _similarities(rows: Tensor) -> Tensor:
    gram = rows @ rows.T
    return _unit(gram, gram)
