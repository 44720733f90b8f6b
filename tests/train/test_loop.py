"""The training loop: goes on bit for bit, keeps the best, refuses what is not a number."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgekd.errors import ModelError
from edgekd.models import network
from edgekd.recipe import Augment, Training
from edgekd.run import Progress, Run
from edgekd.train import checkpoint, loop
from edgekd.train.batches import Batch, Examples
from edgekd.train.device import Place, can_compile, open_fabric
from edgekd.train.loop import Course
from edgekd.workload.normalisation import Normalisation

EPOCHS = 4


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    threads = torch.get_num_threads()
    place = Place(device="cpu", precision="32-true", threads=threads, strategy="auto", capability="any")
    return open_fabric(place)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def examples(count: int, seed: int) -> Examples:
    """Class 1 is brighter."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    images = torch.randint(0, 150, (count, 8, 8, 3), generator=generator) + 80 * labels[:, None, None, None]
    return Examples(images.to(torch.uint8), labels)


def course(keep_best: bool = False, **config: Any) -> Course:
    values: dict[str, Any] = {"epochs": EPOCHS, "batch": 16, "lr": 0.05, "augment": Augment(crop=1), **config}
    return Course("distill", examples(64, 0), examples(40, 1), Normalisation(), Training(**values), keep_best)


class Criterion(nn.Module):
    """A loss out of a function of (logits, batch)."""

    def __init__(self, function: Callable[[Tensor, Batch], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        return self._function(logits, batch)


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(logits, batch.labels)


LABELS = Criterion(cross_entropy)


def killed_after(epoch: int) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        if progress.milestone and progress.done >= 1000 * epoch:
            raise KeyboardInterrupt

    return show


def same_bits(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("keep_best", [False, True])
@pytest.mark.parametrize("epoch", [1, 3, EPOCHS])
def test_killed_training_goes_on_to_the_same_bits(tmp_path: Path, fabric: Fabric, epoch: int, keep_best: bool) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole, plan = net(), course(keep_best)
    wanted = loop.fit(whole, LABELS, plan, fabric, tmp_path / "whole", Run())
    with pytest.raises(KeyboardInterrupt):
        loop.fit(net(), LABELS, plan, fabric, tmp_path / "killed", Run(show=killed_after(epoch)))
    said: list[str] = []
    resumed = net()
    found = loop.fit(resumed, LABELS, plan, fabric, tmp_path / "killed", Run(say=said.append))
    assert said == [f"distill: goes on after epoch {epoch} of {EPOCHS}"]
    assert same_bits(whole, resumed)
    assert found == wanted


def test_kill_within_an_epoch_repeats_that_epoch_to_the_same_bits(tmp_path: Path, fabric: Fabric) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    calls = 0

    def killing(logits: Tensor, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4 + 3:
            raise KeyboardInterrupt
        return cross_entropy(logits, batch)

    whole, resumed = net(), net()
    loop.fit(whole, LABELS, course(), fabric, tmp_path / "whole", Run())
    with pytest.raises(KeyboardInterrupt):
        loop.fit(net(), Criterion(killing), course(), fabric, tmp_path / "killed", Run())
    loop.fit(resumed, LABELS, course(), fabric, tmp_path / "killed", Run())
    assert same_bits(whole, resumed)


def test_training_learns(tmp_path: Path, fabric: Fabric) -> None:
    outcome = loop.fit(net(), LABELS, course(epochs=6, lr=0.2), fabric, tmp_path, Run())
    assert outcome.losses[-1] < outcome.losses[0]
    assert outcome.accuracies[-1] > 0.9
    assert len(outcome.losses) == len(outcome.accuracies) == 6


def test_keep_best_keeps_the_best_epoch(tmp_path: Path, fabric: Fabric, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([0.2, 0.9, 0.4, 0.3])
    after: list[dict[str, Tensor]] = []
    module = net()

    def accuracy(model: nn.Module, course: Course, fabric: Fabric) -> float:
        after.append(copy.deepcopy(module.state_dict()))
        return next(given)

    monkeypatch.setattr(loop, "_accuracy", accuracy)
    outcome = loop.fit(module, LABELS, course(keep_best=True), fabric, tmp_path, Run())
    assert outcome.epoch == 2
    assert all(torch.equal(value, after[1][name]) for name, value in module.state_dict().items())
    assert not torch.equal(module.state_dict()["0.weight"], after[3]["0.weight"])


def test_without_keep_best_the_last_epoch_stays(tmp_path: Path, fabric: Fabric) -> None:
    module = net()
    outcome = loop.fit(module, LABELS, course(), fabric, tmp_path, Run())
    state = checkpoint.load(tmp_path / checkpoint.FILE_NAME)
    assert outcome.epoch == state.epoch == EPOCHS
    assert state.kept == {}
    assert all(torch.equal(value, state.model[name]) for name, value in module.state_dict().items())


def test_accuracy_on_validation_is_that_of_the_module(tmp_path: Path, fabric: Fabric) -> None:
    module, plan = net(), course()
    outcome = loop.fit(module, LABELS, plan, fabric, tmp_path, Run())
    module.eval()
    right = 0
    for image, label in zip(plan.val.images, plan.val.labels, strict=True):
        pixels = (image.double().permute(2, 0, 1)[None] - 128) / 64
        right += int(module.double()(pixels).argmax() == label)
    assert outcome.accuracies[-1] == right / 40


def test_loss_that_is_not_finite_names_step_and_learning_rate(tmp_path: Path, fabric: Fabric) -> None:
    calls = 0

    def breaking(logits: Tensor, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        return cross_entropy(logits, batch) * (float("nan") if calls > 6 else 1.0)

    with pytest.raises(ModelError) as raised:
        loop.fit(net(), Criterion(breaking), course(), fabric, tmp_path, Run())
    rate = 0.05 * (1 + math.cos(math.pi * 6 / 16)) / 2
    assert raised.value.message == (
        f"distill: the loss is not a number at step 6 (epoch 2, batch 3 of 4, learning rate {rate:.4g}, batch size 16)"
    )
    assert f"epoch 1, the last good one, is kept in {tmp_path / checkpoint.FILE_NAME}" in raised.value.hint
    weights = network.read_weights(tmp_path / checkpoint.FILE_NAME)
    network.fill(net(), weights, "the file that was named")
    state = checkpoint.load(tmp_path / checkpoint.FILE_NAME)
    assert state.epoch == 1
    assert all(torch.isfinite(value).all() for value in state.model.values())


def test_norms_and_biases_get_no_weight_decay(tmp_path: Path, fabric: Fabric) -> None:
    module = net()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)

    def flat(logits: Tensor, batch: Batch) -> Tensor:
        return 0.0 * logits.sum()

    plan = course(epochs=1, batch=64, lr=0.5, weight_decay=0.1, momentum=0.0)
    loop.fit(module, Criterion(flat), plan, fabric, tmp_path, Run())
    left = {name: parameter.unique().tolist() for name, parameter in module.named_parameters()}
    assert left == {
        "0.weight": [pytest.approx(0.95)],
        "0.bias": [1.0],
        "1.weight": [1.0],
        "1.bias": [1.0],
        "6.weight": [pytest.approx(0.95)],
        "6.bias": [1.0],
    }


def test_frozen_parameters_stay(tmp_path: Path, fabric: Fabric) -> None:
    module = net()
    frozen = module.get_parameter("0.weight").requires_grad_(False)
    before = frozen.clone()
    loop.fit(module, LABELS, course(epochs=1), fabric, tmp_path, Run())
    assert torch.equal(frozen, before)


def test_one_epoch_is_sgd_with_nesterov_by_hand(tmp_path: Path, fabric: Fabric) -> None:
    """A linear layer on constant pixels, in float64: v = 0.9 v + g; w -= lr (g + 0.9 v)."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False))
    weight = module[1].weight.detach().double().clone()
    images = torch.tensor([[160, 128, 64]] * 4, dtype=torch.uint8).view(4, 1, 1, 3)
    data = Examples(images, torch.tensor([0, 0, 0, 0]))
    config = Training(epochs=3, batch=4, lr=0.1, momentum=0.9, weight_decay=0.0, augment=Augment(crop=0, flip=False))
    loop.fit(module, LABELS, Course("s", data, data, Normalisation(), config, False), fabric, tmp_path, Run())
    x = torch.tensor([0.5, 0.0, -1.0], dtype=torch.float64)
    velocity = torch.zeros_like(weight)
    for rate in (0.1, 0.075, 0.025):
        gradient = ((weight @ x).softmax(0) - torch.tensor([1.0, 0.0]))[:, None] * x
        velocity = 0.9 * velocity + gradient
        weight = weight - rate * (gradient + 0.9 * velocity)
    assert torch.allclose(module[1].weight.double(), weight, atol=1e-6)


class NanGradient(torch.autograd.Function):
    """Passes values on, and no number back."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        return logits.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * float("nan")


@pytest.mark.parametrize("step", [7, 15])
def test_gradient_that_is_not_finite_stops_at_its_own_step_even_the_last(
    tmp_path: Path, fabric: Fabric, step: int
) -> None:
    calls = 0

    def breaking(logits: Tensor, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        return cross_entropy(NanGradient.apply(logits) if calls == step + 1 else logits, batch)

    with pytest.raises(ModelError, match=rf"the gradient is not a number at step {step} \("):
        loop.fit(net(), Criterion(breaking), course(), fabric, tmp_path, Run())
    state = checkpoint.load(tmp_path / checkpoint.FILE_NAME)
    assert state.epoch == step // 4
    assert all(torch.isfinite(value).all() for value in state.model.values())


def test_loss_that_runs_away_names_the_step_where_it_began(tmp_path: Path, fabric: Fabric) -> None:
    calls = 0

    def running_away(logits: Tensor, batch: Batch) -> Tensor:
        nonlocal calls
        calls += 1
        return cross_entropy(logits, batch) * (1e6 if calls > 9 else 1.0)

    with pytest.raises(ModelError, match=r"the loss has run away to \d.*e\+0\d at step 9 \(epoch 3, batch 2 of 4"):
        loop.fit(net(), Criterion(running_away), course(), fabric, tmp_path, Run())
    assert checkpoint.load(tmp_path / checkpoint.FILE_NAME).epoch == 2


def test_a_resumed_training_judges_running_away_by_the_first_loss_of_all(tmp_path: Path, fabric: Fabric) -> None:
    with pytest.raises(KeyboardInterrupt):
        loop.fit(net(), LABELS, course(), fabric, tmp_path, Run(show=killed_after(2)))
    first = checkpoint.load(tmp_path / checkpoint.FILE_NAME).first_loss
    assert first is not None and 0.3 < first < 2
    large = Criterion(lambda logits, batch: cross_entropy(logits, batch) + 150 * first)
    with pytest.raises(ModelError, match="at step 8 "):
        loop.fit(net(), large, course(), fabric, tmp_path, Run())


@pytest.mark.parametrize("keep_best", [False, True])
def test_killed_training_with_average_clipping_and_a_loss_that_learns_goes_on_to_the_same_bits(
    tmp_path: Path, fabric: Fabric, keep_best: bool
) -> None:
    plan = course(keep_best, ema=0.9, clip=0.5)
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole, resumed = net(), net()
    wanted = loop.fit(whole, Learning(), plan, fabric, tmp_path / "whole", Run())
    with pytest.raises(KeyboardInterrupt):
        loop.fit(net(), Learning(), plan, fabric, tmp_path / "killed", Run(show=killed_after(2)))
    assert loop.fit(resumed, Learning(), plan, fabric, tmp_path / "killed", Run()) == wanted
    assert same_bits(whole, resumed)


class Learning(nn.Module):
    """Cross-entropy of logits through a layer of its own."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Linear(2, 2)
        self._weight = weight

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        return self._weight * F.cross_entropy(logits + self.layer(logits), batch.labels)


def test_what_a_loss_learns_is_trained_along(tmp_path: Path, fabric: Fabric) -> None:
    criterion = Learning()
    before = criterion.layer.weight.detach().clone()
    loop.fit(net(), criterion, course(epochs=1), fabric, tmp_path, Run())
    assert not torch.equal(criterion.layer.weight, before)


def test_the_average_is_kept_and_is_the_formula_in_float64(tmp_path: Path, fabric: Fabric) -> None:
    module, weights = net(), []
    start = module[0].weight.detach().double().clone()

    def watching(logits: Tensor, batch: Batch) -> Tensor:
        weights.append(module[0].weight.detach().double().clone())
        return cross_entropy(logits, batch)

    plain = net()
    loop.fit(plain, LABELS, course(), fabric, _folder(tmp_path, "plain"), Run())
    loop.fit(module, Criterion(watching), course(ema=0.8), fabric, _folder(tmp_path, "average"), Run())
    after = [*weights[1:], plain[0].weight.detach().double()]
    average = start
    for step, value in enumerate(after):
        decay = min(0.8, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * value
    assert torch.allclose(module[0].weight.double(), average, atol=1e-6)
    assert not torch.allclose(module[0].weight, plain[0].weight, atol=1e-4)


def test_clipping_bounds_the_norm_of_all_gradients_together(tmp_path: Path, fabric: Fabric) -> None:
    """One step of plain SGD moves all weights together by at most lr · clip."""
    module = net()
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    steep = Learning(1e3)
    before |= {f"loss.{name}": parameter.detach().clone() for name, parameter in steep.named_parameters()}
    config = course(epochs=1, batch=64, lr=0.5, momentum=0.0, weight_decay=0.0, clip=0.25)
    loop.fit(module, steep, config, fabric, tmp_path, Run())
    after = dict(module.named_parameters()) | {f"loss.{name}": value for name, value in steep.named_parameters()}
    moved = torch.cat([(after[name] - value).flatten() for name, value in before.items()])
    assert moved.norm().item() == pytest.approx(0.5 * 0.25, rel=1e-3)


def test_seconds_per_epoch_count_all_steps_and_all_validation_images(
    fabric: Fabric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that moves by 1 whenever it is read, each timed stretch takes 1."""
    ticks = iter(range(1000))
    monkeypatch.setattr(loop.time, "perf_counter", lambda: float(next(ticks)))
    plan = course()  # 64 images in batches of 16, 40 to validate
    assert loop.seconds_per_epoch(net(), LABELS, plan, fabric, steps=2) == pytest.approx(4 / 2 + 1)
    longer = replace(plan, val=examples(4 * loop._VALIDATION_BATCH, 2))
    assert loop.seconds_per_epoch(net(), LABELS, longer, fabric, steps=4) == pytest.approx(1 + 2)


def test_compiled_training_is_near_the_plain_one(tmp_path: Path, fabric: Fabric) -> None:
    if not can_compile():
        pytest.skip("torch.compile needs a C++ compiler and Python's headers")
    plain, compiled = net(), net()
    for module in (plain, compiled):
        module[3].p = 0.0  # compiled dropout draws other numbers
    loop.fit(plain, LABELS, course(), fabric, _folder(tmp_path, "plain"), Run())
    loop.fit(compiled, LABELS, replace(course(), compiled=True), fabric, _folder(tmp_path, "compiled"), Run())
    for name, value in plain.state_dict().items():
        assert torch.allclose(value.float(), compiled.state_dict()[name].float(), atol=1e-3)


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def test_speed_is_measured_whatever_the_losses_are(fabric: Fabric) -> None:
    """Under a teacher that is not trained yet they may be anything."""
    wild = Criterion(lambda logits, batch: cross_entropy(logits, batch) * float("inf"))
    assert loop.seconds_per_epoch(net(), wild, course(), fabric, steps=2) > 0


def test_a_network_with_a_kernel_of_three_axes_trains(fabric: Fabric, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    before = module[1].weight.detach().clone()
    outcome = loop.fit(module, LABELS, course(), fabric, tmp_path, Run())
    assert len(outcome.losses) == EPOCHS
    assert not torch.equal(module[1].weight, before)
