"""Weights of other classes: the head starts anew; layers that are frozen keep theirs while the rest learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import edgekd
from edgekd import recipe as recipes
from edgekd.errors import ModelError, RecipeError
from edgekd.models import network, transfer
from edgekd.run import Run


def net(classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, classes))


def test_the_head_is_the_modules_own_and_all_else_the_files() -> None:
    given, module = net(1000).state_dict(), net(3)
    own = {name: value.clone() for name, value in module.state_dict().items()}
    filled, replaced = transfer.with_new_head(given, module, 3)
    assert replaced == ["3.weight (1000 -> 3 outputs)", "3.bias (1000 -> 3 outputs)"]
    for name, value in filled.items():
        expected = own[name] if name.startswith("3.") else given[name]
        torch.testing.assert_close(value, expected, rtol=0, atol=0)


def test_a_convolution_may_be_the_head() -> None:
    """SqueezeNet's classifier is one."""
    module = nn.Sequential(nn.Conv2d(3, 5, 1, bias=False))
    filled, replaced = transfer.with_new_head({"0.weight": torch.ones(1000, 3, 1, 1)}, module, 5)
    assert replaced == ["0.weight (1000 -> 5 outputs)"]
    assert filled["0.weight"].shape == (5, 3, 1, 1)


def test_a_width_that_differs_inside_is_no_head() -> None:
    given = nn.Sequential(nn.Linear(2, 8), nn.Linear(8, 1000)).state_dict()
    module = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 3))
    with pytest.raises(ModelError, match="no layer of the weights has another number of outputs than 3"):
        transfer.with_new_head(given, module, 3)


def test_weights_that_fit_as_they_are_need_no_new_head() -> None:
    with pytest.raises(ModelError) as caught:
        transfer.with_new_head(net(3).state_dict(), net(3), 3)
    assert "leave out head" in caught.value.hint


def test_an_unknown_path_to_freeze_names_the_nearest() -> None:
    with pytest.raises(ModelError, match='freeze: no layer "4" in the model'):
        transfer.freeze(net(3), ["4"])


def test_to_freeze_everything_is_an_error() -> None:
    with pytest.raises(ModelError, match="nothing to learn"):
        transfer.freeze(net(3), ["0", "1", "3"])


def test_without_weights_there_is_nothing_to_freeze_or_to_replace(copy_toy: Callable[[], Path]) -> None:
    for override, key in (("teacher.head=replace", "teacher.head"), ("student.freeze=['body']", "student.freeze")):
        with pytest.raises(RecipeError, match=key):
            recipes.load(copy_toy(), [override])


@pytest.mark.slow
def test_weights_of_five_classes_teach_ten_and_what_is_frozen_stays(copy_toy: Callable[[], Path]) -> None:
    """The teacher's head starts anew and is trained; its first block, statistics too, is as in the file."""
    folder = copy_toy()
    import sys

    sys.path.insert(0, str(folder))
    try:
        import toy_models

        torch.manual_seed(0)
        torch.save(toy_models.teacher(5).state_dict(), folder / "five.pt")
    finally:
        sys.path.remove(str(folder))
    given = torch.load(folder / "five.pt", weights_only=True)
    lines: list[str] = []
    overrides = ["teacher.weights=five.pt", "teacher.mean=[128,128,128]", "teacher.std=[64,64,64]"]
    overrides += ["teacher.head=replace", "teacher.freeze=['body.0']", "teacher.min_teacher=0", "quantize.samples=64"]
    recipe = recipes.load(folder, [*overrides, "teacher.train.epochs=1"])
    # The teacher alone: what is tested ends with its training.
    recipe = recipe.model_copy(update={"student": None, "distill": None, "prune": None})
    edgekd.build(recipe, targets=["arm64"], out=folder / "dist", run=Run(say=lines.append))
    assert any(line.startswith("five.pt: the head starts anew: head.weight (5 -> 10 outputs)") for line in lines)
    (trained,) = (folder / ".edgekd").glob("teacher-*/network")
    weights = network.read_weights(trained / network.WEIGHTS)
    frozen = [name for name in weights if name.startswith("body.0.")]
    assert len(frozen) >= 5
    for name in frozen:
        torch.testing.assert_close(weights[name], given[name], rtol=0, atol=0)
    assert not torch.equal(weights["body.1.0.weight"], given["body.1.0.weight"])
    assert weights["head.weight"].shape == (10, 64)
