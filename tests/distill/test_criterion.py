"""The criterion is alpha times the labels plus the weighted losses, and learns what layers need to be compared."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from torch import Tensor, nn

from edgekd.distill import losses
from edgekd.distill.criterion import CrossEntropy, Features, Pair, UnderTeacher
from edgekd.distill.taps import Taps, shapes
from edgekd.errors import ModelError, RecipeError
from edgekd.recipe import Distill, FeatureLoss, LogitLoss, Loss
from edgekd.recipe import losses as kinds
from edgekd.train.batches import Batch

KINDS = [
    kind for kind in vars(kinds).values()
    if isinstance(kind, type) and issubclass(kind, LogitLoss | FeatureLoss) and kind not in {LogitLoss, FeatureLoss}
]  # fmt: skip


def batch(others: Tensor | None = None, share: Tensor | None = None) -> Batch:
    pixels = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    return Batch(pixels, torch.tensor([0, 2, 1]), torch.arange(3), 0, others, share)


def logits(seed: int) -> Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_the_recipe_is_a_function_with_just_its_parameters(kind: type[LogitLoss | FeatureLoss]) -> None:
    """A new loss is one function and one type: nothing else connects the two."""
    name = kind.model_fields["kind"].default
    taken = list(inspect.signature(getattr(losses, name)).parameters)
    given = ["student", "teacher"] + (["labels"] if issubclass(kind, LogitLoss) else [])
    common = set(LogitLoss.model_fields) | set(FeatureLoss.model_fields) | {"regressor"}
    assert taken == given + [field for field in kind.model_fields if field not in common]


def test_the_union_of_losses_names_every_kind() -> None:
    schema = TypeAdapter(Loss).json_schema()
    assert set(schema["discriminator"]["mapping"]) == {kind.model_fields["kind"].default for kind in KINDS}
    assert len(KINDS) == 8


def test_without_losses_of_its_own_it_is_hintons_formula() -> None:
    config = Distill(alpha=0.3, temperature=5.0, label_smoothing=0.1)
    found = UnderTeacher(config, lambda _: logits(1), None)(logits(0), batch())
    soft = losses.kd(logits(0), logits(1), batch().labels, 5.0)
    hard = F.cross_entropy(logits(0), batch().labels, label_smoothing=0.1)
    assert found.item() == pytest.approx(0.7 * soft.item() + 0.3 * hard.item(), rel=1e-6)


def test_several_losses_add_up_by_their_weights() -> None:
    config = Distill(alpha=0.5, loss=(kinds.Dkd(weight=2.0), kinds.Mse(weight=0.25, standardize=True)))
    found = UnderTeacher(config, lambda _: logits(1), None)(logits(0), batch())
    standardized = losses.standardized(logits(0)), losses.standardized(logits(1))
    wanted = (
        0.5 * F.cross_entropy(logits(0), batch().labels)
        + 2 * losses.dkd(logits(0), logits(1), batch().labels, 4.0, 1.0, 2.0)
        + 0.25 * losses.mse(*standardized, batch().labels)
    )
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, LogitLoss)])
def test_standardize_is_an_option_of_each_logit_loss(kind: type[LogitLoss]) -> None:
    config = Distill(alpha=0.0, loss=(kind(standardize=True),))  # type: ignore[arg-type]
    supervise = lambda _: logits(1)  # noqa: E731
    found = UnderTeacher(config, supervise, None)(logits(0), batch())
    again = UnderTeacher(config, supervise, None)(3 * logits(0) + 5, batch())
    assert found.item() == pytest.approx(again.item(), rel=1e-4)


def test_alpha_1_asks_no_teacher() -> None:
    config = Distill(alpha=1.0)
    assert config.terms == ()
    found = UnderTeacher(config, None, None)(logits(0), batch())
    assert found.item() == pytest.approx(F.cross_entropy(logits(0), batch().labels).item())


def test_mixed_images_count_either_label_by_its_share() -> None:
    others, share = torch.tensor([3, 3, 0]), torch.tensor([0.25, 1.0, 0.5])
    targets = share[:, None] * F.one_hot(batch().labels, 4) + (1 - share[:, None]) * F.one_hot(others, 4)
    wanted = F.cross_entropy(logits(0), targets, label_smoothing=0.2)
    found = CrossEntropy(0.2)(logits(0), batch(others, share))
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(inplace=True))
        self.pair = Both()
        self.unused = nn.Linear(1, 1)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pair(self.body(x))[0].mean((2, 3)))


class Both(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def features(teacher_width: int = 6, **losses_by_kind: Any) -> tuple[Features, Net, Net]:
    torch.manual_seed(0)
    terms = tuple(TypeAdapter(Loss).validate_python(term) for term in losses_by_kind.values())
    student, teacher = Net(4), Net(teacher_width)
    pairs = tuple(
        Pair(
            shapes(student, [term.student], (8, 8), "student")[term.student],
            shapes(teacher, [term.teacher], (8, 8), "teacher")[term.teacher],
        )
        for term in terms
    )
    taps = Taps(student.train(), [term.student for term in terms], in_training=True)
    return Features(terms, pairs, taps, Taps(teacher.eval(), [term.teacher for term in terms], False)), student, teacher


def test_a_hint_between_other_widths_goes_through_a_trained_1x1_convolution() -> None:
    found, student, teacher = features(a={"kind": "hint", "student": "body", "teacher": "body", "weight": 2.0})
    regressor = found.regressors[0]
    assert isinstance(regressor, nn.Conv2d)
    assert regressor.weight.shape == (6, 4, 1, 1)
    x = torch.randn(5, 3, 8, 8)
    student(x), teacher(x)
    wanted = 2 * F.mse_loss(regressor(student.body(x)), teacher.body(x))
    student(x), teacher(x)
    value = found()
    value.backward()
    assert value.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert regressor.weight.grad is not None and student.body[0].weight.grad is not None


def test_a_hint_between_equal_widths_compares_them_as_they_are() -> None:
    found, student, teacher = features(4, a={"kind": "hint", "student": "body", "teacher": "body", "weight": 2.0})
    assert list(found.parameters()) == []
    x = torch.randn(5, 3, 8, 8)
    maps = [net.body(x).detach().double().numpy() for net in (student, teacher)]
    student(x), teacher(x)
    assert found().item() == pytest.approx(2 * float(((maps[0] - maps[1]) ** 2).mean()), rel=1e-5)


def test_a_hint_between_equal_widths_has_a_regressor_where_the_recipe_asks_for_one() -> None:
    """The value is that of a 1×1 convolution written as a product in float64, and the gradient reaches it."""
    term = {"kind": "hint", "student": "body", "teacher": "body", "weight": 2.0, "regressor": True}
    found, student, teacher = features(4, a=term)
    regressor = found.regressors[0]
    assert isinstance(regressor, nn.Conv2d)
    weight, bias = regressor.weight.detach().double().numpy(), regressor.bias.detach().double().numpy()  # type: ignore[union-attr]
    x = torch.randn(5, 3, 8, 8)
    maps = [net.body(x).detach().double().numpy() for net in (student, teacher)]
    through = np.einsum("oi,bihw->bohw", weight[:, :, 0, 0], maps[0]) + bias[None, :, None, None]
    student(x), teacher(x)
    value = found()
    value.backward()
    assert value.item() == pytest.approx(2 * float(((through - maps[1]) ** 2).mean()), rel=1e-5)
    assert regressor.weight.grad is not None and regressor.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("student", "teacher", "regressor", "wanted"),
    [
        ((4, 8, 8), (4, 8, 8), False, nn.Identity),
        ((4, 8, 8), (4, 8, 8), True, nn.Conv2d),
        ((4, 8, 8), (6, 8, 8), False, nn.Conv2d),
        ((4,), (4,), False, nn.Identity),
        ((4,), (4,), True, nn.Linear),
        ((4,), (9,), False, nn.Linear),
    ],
)
def test_a_hint_has_a_regressor_where_widths_differ_or_it_is_asked_for(
    student: tuple[int, ...], teacher: tuple[int, ...], regressor: bool, wanted: type[nn.Module]
) -> None:
    net = nn.Module()
    net.body = nn.Identity()
    term = kinds.Hint(student="body", teacher="body", regressor=regressor)
    taps = Taps(net, ["body"], in_training=True)
    (found,) = Features((term,), (Pair(student, teacher),), taps, taps).regressors
    assert type(found) is wanted
    assert found(torch.zeros(2, *student)).shape == (2, *teacher)


def test_losses_between_layers_add_up_and_see_a_layer_before_relu_overwrites_it() -> None:
    found, student, teacher = features(
        a={"kind": "sp", "student": "body.0", "teacher": "body.0", "weight": 3.0},
        b={"kind": "attention", "student": "body", "teacher": "body", "weight": 5.0},
    )
    x = torch.randn(5, 3, 8, 8)
    student(x), teacher(x)
    value = found().item()
    before = student.body[0](x), teacher.body[0](x)
    wanted = 3 * losses.sp(*before) + 5 * losses.attention(before[0].relu(), before[1].relu(), 2.0)
    assert value == pytest.approx(wanted.item(), rel=1e-5)


def test_taps_see_a_layer_that_is_kept_in_eval_while_the_rest_trains() -> None:
    net = Net(4)
    taps = Taps(net, ["body"], in_training=True)
    net.train().body.eval()
    net(torch.ones(2, 3, 8, 8))
    assert taps.take("body").shape == (2, 4, 4, 4)


def test_taps_see_one_mode_only() -> None:
    net = Net(4).train()
    taps = Taps(net, ["body"], in_training=True)
    net(torch.ones(2, 3, 8, 8))
    seen = taps.take("body").clone()
    net.eval()(torch.zeros(2, 3, 8, 8))
    assert torch.equal(taps.take("body"), seen)


def test_larger_feature_maps_are_averaged_down() -> None:
    from edgekd.distill.criterion import _matched

    student, teacher = torch.randn(2, 4, 8, 4), torch.randn(2, 4, 4, 8)
    one, other = _matched(student, teacher)
    assert torch.allclose(one, student.view(2, 4, 4, 2, 4).mean(3))
    assert torch.allclose(other, teacher.view(2, 4, 4, 4, 2).mean(4))


@pytest.mark.parametrize(
    ("kind", "student", "teacher"),
    [
        ("hint", (4, 6, 6), (4, 8, 8)),
        ("attention", (4, 5, 5), (4, 7, 7)),
        ("attention", (4,), (4,)),
        ("hint", (4, 8, 8), (4,)),
        ("hint", (4, 8), (4, 8)),
    ],
)
def test_sizes_that_cannot_be_matched_are_refused(
    kind: str, student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    term = TypeAdapter(Loss).validate_python({"kind": kind, "student": "a.b", "teacher": "c.d"})
    with pytest.raises(ModelError, match=f"the loss {kind} cannot match") as raised:
        Pair(student, teacher).check(term)
    assert '"a.b"' in raised.value.message and '"c.d"' in raised.value.message


@pytest.mark.parametrize(
    ("kind", "student", "teacher"),
    [("hint", (4, 4, 8), (6, 8, 8)), ("rkd", (4, 5, 5), (7,)), ("sp", (4, 6), (4, 8, 8)), ("hint", (4,), (9,))],
)
def test_sizes_that_can_be_matched_pass(kind: str, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    term = TypeAdapter(Loss).validate_python({"kind": kind, "student": "a", "teacher": "b"})
    Pair(student, teacher).check(term)


def test_shapes_are_without_the_batch_and_leave_no_hook() -> None:
    net = Net(4)
    assert shapes(net, ["body", "head"], (8, 12), "student") == {"body": (4, 4, 6), "head": (4,)}
    assert all(not module._forward_hooks for module in net.modules())


def test_a_path_that_is_no_layer_names_the_near_ones() -> None:
    with pytest.raises(RecipeError, match=r'names the layer "body\.2", which the teacher has not') as raised:
        shapes(Net(4), ["body.2"], (8, 8), "teacher")
    assert 'did you mean "body.' in raised.value.hint


@pytest.mark.parametrize("path", ["pair", "unused"])
def test_a_layer_that_gives_no_single_tensor_is_refused(path: str) -> None:
    with pytest.raises(RecipeError, match=f'"{path}" of the student gives nothing that a loss can compare'):
        shapes(Net(4), [path], (8, 8), "student")
