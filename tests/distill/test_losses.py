"""Each loss against a naive float64 loop, and against the limits and invariances that its paper claims."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgekd.distill import losses

LABELS = torch.tensor([2, 0, 1, 4, 4, 3])
Rows = list[list[float]]

OF_LOGITS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "kd": partial(losses.kd, temperature=3.0),
    "dkd": partial(losses.dkd, temperature=3.0, alpha=1.5, beta=8.0),
    "dist": partial(losses.dist, temperature=3.0, beta=2.0, gamma=0.5),
    "mse": losses.mse,
}
OF_FEATURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hint": losses.hint,
    "attention": partial(losses.attention, power=2.0),
    "rkd": partial(losses.rkd, distance=25.0, angle=50.0),
    "sp": losses.sp,
}


def logits(seed: int, rows: int = 6, classes: int = 5, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)


def features(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    weights = [math.exp(value - top) for value in row]
    return [weight / math.fsum(weights) for weight in weights]


def divergence(teacher: list[float], student: list[float]) -> float:
    return math.fsum(q * (math.log(q) - math.log(p)) for q, p in zip(teacher, student, strict=True))


def softened(rows: Tensor, temperature: float) -> Rows:
    return [softmax([value / temperature for value in row]) for row in rows.tolist()]


def naive_kd(student: Tensor, teacher: Tensor, temperature: float) -> float:
    pairs = zip(softened(teacher, temperature), softened(student, temperature), strict=True)
    return temperature**2 * math.fsum(divergence(q, p) for q, p in pairs) / len(student)


def naive_dkd(student: Tensor, teacher: Tensor, temperature: float, alpha: float, beta: float) -> float:
    total = 0.0
    rows = zip(softened(teacher, temperature), softened(student, temperature), LABELS.tolist(), strict=True)
    for q, p, label in rows:
        others_q = [value / (1 - q[label]) for number, value in enumerate(q) if number != label]
        others_p = [value / (1 - p[label]) for number, value in enumerate(p) if number != label]
        total += alpha * divergence([q[label], 1 - q[label]], [p[label], 1 - p[label]])
        total += beta * divergence(others_q, others_p)
    return temperature**2 * total / len(student)


def naive_dist(student: Tensor, teacher: Tensor, temperature: float, beta: float, gamma: float) -> float:
    p, q = np.array(softened(student, temperature)), np.array(softened(teacher, temperature))
    rows = [1 - np.corrcoef(one, other)[0, 1] for one, other in zip(p, q, strict=True)]
    columns = [1 - np.corrcoef(one, other)[0, 1] for one, other in zip(p.T, q.T, strict=True)]
    return temperature**2 * (beta * float(np.mean(rows)) + gamma * float(np.mean(columns)))


def naive_attention(student: Tensor, teacher: Tensor, power: float) -> float:
    def maps(values: Tensor) -> np.ndarray:
        found = (np.abs(values.numpy()) ** power).sum(1).reshape(len(values), -1)
        return np.array([row / math.sqrt((row**2).sum()) for row in found])

    return float(((maps(student) - maps(teacher)) ** 2).mean())


def standardized_by_the_authors(rows: Tensor) -> np.ndarray:
    """Return `normalize` of sunshangquan/logit-standardization-KD, whose torch.std divides by K - 1."""
    found = []
    for row in rows.tolist():
        mean = math.fsum(row) / len(row)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in row) / (len(row) - 1))
        found.append([(value - mean) / (1e-7 + deviation) for value in row])
    return np.array(found)


def naive_sp(student: Tensor, teacher: Tensor) -> float:
    def gram(values: Tensor) -> np.ndarray:
        rows = values.numpy().reshape(len(values), -1)
        found = np.array([[float(one @ other) for other in rows] for one in rows])
        return np.array([row / math.sqrt((row**2).sum()) for row in found])

    difference = gram(student) - gram(teacher)
    return float((difference**2).sum()) / len(student) ** 2


def huber(difference: float) -> float:
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def naive_rkd(student: Tensor, teacher: Tensor, distance: float, angle: float) -> float:
    count = len(student)

    def pooled(values: Tensor) -> np.ndarray:
        return values.numpy().reshape(count, values.shape[1], -1).mean(2)

    def distances(values: Tensor) -> dict[tuple[int, int], float]:
        rows = pooled(values)
        found = {(i, j): float(np.linalg.norm(rows[i] - rows[j])) for i in range(count) for j in range(count)}
        mean = math.fsum(found.values()) / (count * (count - 1))
        return {pair: value / mean for pair, value in found.items()}

    def angles(values: Tensor) -> dict[tuple[int, int, int], float]:
        rows = pooled(values)
        found = {}
        for i, j, k in itertools.product(range(count), repeat=3):
            one, other = rows[j] - rows[i], rows[k] - rows[i]
            lengths = np.linalg.norm(one) * np.linalg.norm(other)
            found[i, j, k] = float(one @ other / lengths) if lengths else 0.0
        return found

    total = 0.0
    for weight, of in ((distance, distances), (angle, angles)):
        p, q = of(student), of(teacher)
        total += weight * math.fsum(huber(p[key] - q[key]) for key in p) / len(p)
    return total


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_the_naive_loop(temperature: float) -> None:
    found = losses.kd(logits(0), logits(1), LABELS, temperature)
    assert found.item() == pytest.approx(naive_kd(logits(0), logits(1), temperature), rel=1e-12)


@pytest.mark.parametrize(
    ("temperature", "alpha", "beta"), [(1.0, 1.0, 1.0), (4.0, 1.0, 2.0), (4.0, 1.0, 8.0), (2.0, 0.0, 1.0)]
)
def test_dkd_is_the_naive_loop(temperature: float, alpha: float, beta: float) -> None:
    found = losses.dkd(logits(0), logits(1), LABELS, temperature, alpha, beta)
    assert found.item() == pytest.approx(naive_dkd(logits(0), logits(1), temperature, alpha, beta), rel=1e-12)


@pytest.mark.parametrize(("temperature", "beta", "gamma"), [(1.0, 1.0, 1.0), (4.0, 2.0, 0.0), (4.0, 0.0, 2.0)])
def test_dist_is_the_naive_loop(temperature: float, beta: float, gamma: float) -> None:
    found = losses.dist(logits(0), logits(1), LABELS, temperature, beta, gamma)
    assert found.item() == pytest.approx(naive_dist(logits(0), logits(1), temperature, beta, gamma), rel=1e-10)


def test_mse_is_the_mean_square() -> None:
    wanted = float(((logits(0).numpy() - logits(1).numpy()) ** 2).mean())
    assert losses.mse(logits(0), logits(1), LABELS).item() == pytest.approx(wanted, rel=1e-12)


def test_hint_is_the_mean_square() -> None:
    one, other = features(0, 3, 4, 2, 5), features(1, 3, 4, 2, 5)
    assert losses.hint(one, other).item() == pytest.approx(float(((one - other).numpy() ** 2).mean()), rel=1e-12)


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_attention_is_the_naive_formula_for_other_widths(power: float) -> None:
    student, teacher = features(0, 4, 3, 5, 6), features(1, 4, 7, 5, 6)
    found = losses.attention(student, teacher, power)
    assert found.item() == pytest.approx(naive_attention(student, teacher, power), rel=1e-10)


@pytest.mark.parametrize(("width", "height"), [(6, 5), (1, 3)])
def test_attention_is_at_loss_of_the_authors_code_and_not_equation_2_of_their_paper(width: int, height: int) -> None:
    """at_loss averages squares over images and pixels; equation 2 adds up norms, and differs by more than a factor."""
    student, teacher = features(0, 4, 3, height, width), features(1, 4, 7, height, width)
    maps = [(values.numpy() ** 2).mean(1).reshape(4, -1) for values in (student, teacher)]
    one, other = (rows / np.sqrt(np.maximum((rows**2).sum(1, keepdims=True), 1e-12)) for rows in maps)
    norms = np.linalg.norm(one - other, axis=1)
    found = losses.attention(student, teacher, 2.0).item()
    assert found == pytest.approx(float(((one - other) ** 2).mean()), rel=1e-10)
    assert found == pytest.approx(float((norms**2).mean()) / (height * width), rel=1e-10)
    assert found < 0.5 * float(norms.mean())


def test_rkd_is_the_naive_loop_over_pairs_and_triples() -> None:
    student, teacher = features(0, 5, 3, 2, 2), features(1, 5, 7)
    found = losses.rkd(student, teacher, 25.0, 50.0)
    assert found.item() == pytest.approx(naive_rkd(student, teacher, 25.0, 50.0), rel=1e-8)


def test_sp_is_the_naive_loop() -> None:
    student, teacher = features(0, 5, 3, 2, 2), features(1, 5, 7)
    assert losses.sp(student, teacher).item() == pytest.approx(naive_sp(student, teacher), rel=1e-10)


@pytest.mark.parametrize("classes", [2, 3, 5, 100])
def test_standardized_rows_are_those_of_the_authors_code(classes: int) -> None:
    rows = logits(0, classes=classes)
    wanted = standardized_by_the_authors(rows)
    # The authors' 1e-7 beside the deviation is the difference.
    assert np.allclose(losses.standardized(rows).numpy(), wanted, rtol=1e-6, atol=0)
    assert np.allclose(wanted.std(1, ddof=1), 1, rtol=1e-5) and np.allclose(wanted.mean(1), 0, atol=1e-12)


def test_kd_of_standardized_logits_is_the_naive_loop_over_the_authors_rows() -> None:
    wanted = naive_kd(*(torch.from_numpy(standardized_by_the_authors(logits(seed))) for seed in (0, 1)), 2.0)
    assert standardized_kd(logits(0), logits(1), LABELS).item() == pytest.approx(wanted, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(0.1, 50), shift=st.floats(-100, 100), seed=st.integers(0, 99))
def test_standardized_does_not_see_shift_and_scale(scale: float, shift: float, seed: int) -> None:
    rows = logits(seed)
    assert torch.allclose(losses.standardized(scale * rows + shift), losses.standardized(rows), atol=1e-5)


@pytest.mark.parametrize("name", OF_LOGITS)
def test_equal_logits_cost_nothing_and_pull_nowhere(name: str) -> None:
    student = logits(0).requires_grad_()
    value = OF_LOGITS[name](student, logits(0), LABELS)
    value.backward()
    assert abs(value.item()) < 1e-12
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-7


@pytest.mark.parametrize("name", OF_FEATURES)
def test_equal_features_cost_nothing_and_pull_nowhere(name: str) -> None:
    student = features(0, 4, 3, 2, 2).requires_grad_()
    value = OF_FEATURES[name](student, features(0, 4, 3, 2, 2))
    value.backward()
    assert abs(value.item()) < 1e-12
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 1e-7


@pytest.mark.parametrize("name", [*OF_LOGITS, *OF_FEATURES])
def test_each_loss_is_positive_and_follows_its_gradient_down(name: str) -> None:
    shape = (6, 5) if name in OF_LOGITS else (4, 3, 2, 2)
    student = features(0, *shape).requires_grad_()

    def value(of: Tensor) -> Tensor:
        teacher = features(1, *shape)
        return OF_LOGITS[name](of, teacher, LABELS) if name in OF_LOGITS else OF_FEATURES[name](of, teacher)

    before = value(student)
    before.backward()
    assert student.grad is not None
    step = student.grad / student.grad.norm()
    assert before.item() > 1e-4
    assert value(student.detach() - 1e-3 * step).item() < before.item()


@settings(max_examples=40, deadline=None)
@given(shift=st.floats(-50, 50), seed=st.integers(0, 99), name=st.sampled_from(["kd", "dkd", "dist"]))
def test_a_shift_of_all_logits_of_a_row_changes_nothing(shift: float, seed: int, name: str) -> None:
    loss = OF_LOGITS[name]
    wanted = loss(logits(seed), logits(seed + 1), LABELS)
    assert loss(logits(seed) + shift, logits(seed + 1), LABELS).item() == pytest.approx(wanted.item(), rel=1e-6)


def test_kd_at_a_high_temperature_is_the_squared_difference_of_centred_logits() -> None:
    """Hinton et al. 2015, section 2.1: T → ∞ gives Σ (z - v)² / (2 N) of zero-mean logits."""
    student, teacher = logits(0), logits(1)
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    wanted = (centred**2).sum(1).mean().item() / (2 * student.shape[1])
    assert losses.kd(student, teacher, LABELS, 1e4).item() == pytest.approx(wanted, rel=1e-3)


def test_dkd_with_the_teachers_own_weights_is_kd() -> None:
    """Zhao et al. 2022, equation 6: KD = TCKD + (1 - p_t) · NCKD, image by image."""
    student, teacher, temperature = logits(0), logits(1), 2.0
    wanted = losses.kd(student, teacher, LABELS, temperature).item()
    total = 0.0
    for row in range(len(student)):
        own = (student[row : row + 1], teacher[row : row + 1], LABELS[row : row + 1])
        beta = 1 - (own[1] / temperature).softmax(1)[0, LABELS[row]].item()
        total += losses.dkd(*own, temperature, 1.0, beta).item()
    assert total / len(student) == pytest.approx(wanted, rel=1e-10)


def test_dist_does_not_see_scale_and_shift_of_probabilities() -> None:
    """A student whose probabilities are an affine function of the teacher's, row by row, has the relation right."""
    teacher = logits(1).softmax(1)
    student = (0.5 * teacher + 0.5 / teacher.shape[1]).log()
    assert losses.dist(student, teacher.log(), LABELS, 1.0, 1.0, 0.0).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("name", ["attention", "rkd", "sp"])
def test_a_scale_of_all_features_changes_nothing(name: str) -> None:
    student, teacher = features(0, 4, 3, 2, 2), features(1, 4, 3, 2, 2)
    wanted = OF_FEATURES[name](student, teacher).item()
    assert OF_FEATURES[name](7.5 * student, 0.2 * teacher).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("name", ["rkd", "sp"])
def test_a_rotation_of_the_features_changes_nothing(name: str) -> None:
    student, teacher = features(0, 5, 6), features(1, 5, 6)
    rotation = torch.linalg.qr(features(2, 6, 6)).Q
    wanted = OF_FEATURES[name](student, teacher).item()
    assert OF_FEATURES[name](student @ rotation, teacher).item() == pytest.approx(wanted, rel=1e-6)


def test_rkd_does_not_see_a_shift_of_all_features() -> None:
    student, teacher = features(0, 5, 6), features(1, 5, 6)
    wanted = OF_FEATURES["rkd"](student, teacher).item()
    assert OF_FEATURES["rkd"](student + 3.0, teacher).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("name", ["dist", "kd standardized", "attention", "rkd", "sp"])
def test_a_student_that_does_not_vary_is_not_thrown_off(name: str) -> None:
    """A head that starts at zero, dead or equal features: where no direction is defined, no gradient explodes."""
    of_logits = {"dist": OF_LOGITS["dist"], "kd standardized": standardized_kd}
    shape = (6, 5) if name in of_logits else (6, 3, 2, 2)
    for value in (0.0, 0.7):
        student = torch.full(shape, value).requires_grad_()
        teacher = features(1, *shape).float()
        loss = of_logits[name](student, teacher, LABELS) if name in of_logits else OF_FEATURES[name](student, teacher)
        loss.backward()
        assert student.grad is not None
        assert student.grad.abs().max() < 100


def standardized_kd(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return losses.kd(losses.standardized(student), losses.standardized(teacher), labels, 2.0)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 99),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 50.0, 1e4]),
    name=st.sampled_from([*OF_LOGITS, *OF_FEATURES]),
)
def test_no_loss_or_gradient_is_nan_for_wild_or_constant_values(seed: int, scale: float, name: str) -> None:
    shape = (6, 5) if name in OF_LOGITS else (4, 3, 2, 2)
    student = (scale * features(seed, *shape)).float().requires_grad_()
    teacher = (scale * features(seed + 1, *shape)).float()
    value = OF_LOGITS[name](student, teacher, LABELS) if name in OF_LOGITS else OF_FEATURES[name](student, teacher)
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()
