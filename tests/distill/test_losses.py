"""The distillation loss against a naive float64 loop, and the limits that the paper promises."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgekd.distill.losses import logit_kd


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    weights = [math.exp(value - top) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def naive(
    student: np.ndarray, teacher: np.ndarray, labels: list[int], temperature: float, alpha: float, smoothing: float
) -> float:
    """Sum over images and classes, one term at a time."""
    total = 0.0
    for own, taught, label in zip(student.tolist(), teacher.tolist(), labels, strict=True):
        p = softmax([value / temperature for value in taught])
        q = softmax([value / temperature for value in own])
        soft = math.fsum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))
        classes = len(own)
        target = [smoothing / classes + (1 - smoothing) * (index == label) for index in range(classes)]
        hard = -math.fsum(t * math.log(q1) for t, q1 in zip(target, softmax(own), strict=True))
        total += (1 - alpha) * temperature**2 * soft + alpha * hard
    return total / len(labels)


def logits(seed: int, batch: int = 6, classes: int = 5) -> Tensor:
    return 3 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    temperature=st.floats(0.5, 20),
    alpha=st.floats(0, 1),
    smoothing=st.sampled_from([0.0, 0.1, 0.4]),
)
def test_loss_is_the_naive_sum(seed: int, temperature: float, alpha: float, smoothing: float) -> None:
    student, teacher = logits(seed), logits(seed + 100)
    wanted = naive(student.numpy(), teacher.numpy(), LABELS.tolist(), temperature, alpha, smoothing)
    found = logit_kd(student, teacher, LABELS, temperature, alpha, smoothing).item()
    assert found == pytest.approx(wanted, rel=1e-9)
    single = logit_kd(student.float(), teacher.float(), LABELS, temperature, alpha, smoothing).item()
    assert single == pytest.approx(wanted, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_equal_logits_have_no_soft_loss_and_no_soft_gradient(temperature: float) -> None:
    student = logits(0).requires_grad_()
    loss = logit_kd(student, logits(0), LABELS, temperature, alpha=0.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert student.grad is not None
    assert student.grad.abs().max().item() < 1e-12


def test_logits_that_differ_by_a_constant_have_no_soft_loss() -> None:
    assert logit_kd(logits(0) + 7, logits(0), LABELS, 3.0, 0.0).item() == pytest.approx(0.0, abs=1e-12)


def soft_gradient(temperature: float) -> Tensor:
    student = logits(0).requires_grad_()
    logit_kd(student, logits(1), LABELS, temperature, alpha=0.0).backward()
    assert student.grad is not None
    return student.grad


def test_gradient_at_large_temperature_is_that_of_matching_centred_logits() -> None:
    """Section 2.1: T² · gradient -> (z - v) / N for zero-mean logits, so its size does not depend on T."""
    difference = logits(0) - logits(1)
    limit = (difference - difference.mean(1, keepdim=True)) / 5 / 6
    for temperature in (1e3, 1e4):
        assert torch.allclose(soft_gradient(temperature), limit, rtol=0.02, atol=1e-3)
    assert soft_gradient(1e3).norm().item() == pytest.approx(soft_gradient(1e4).norm().item(), rel=0.01)


def test_alpha_one_is_cross_entropy_alone() -> None:
    found = logit_kd(logits(0), logits(1), LABELS, 4.0, 1.0, 0.1)
    assert found.item() == F.cross_entropy(logits(0), LABELS, label_smoothing=0.1).item()


def test_alpha_zero_ignores_the_labels() -> None:
    one = logit_kd(logits(0), logits(1), LABELS, 4.0, 0.0)
    assert one.item() == logit_kd(logits(0), logits(1), LABELS.flip(0), 4.0, 0.0).item()


def test_far_logits_stay_finite() -> None:
    student = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = logit_kd(student, torch.tensor([[-1e4, 1e4]]), torch.tensor([0]), 1.0, 0.5)
    loss.backward()
    assert math.isfinite(loss.item())
    assert student.grad is not None and bool(student.grad.isfinite().all())
