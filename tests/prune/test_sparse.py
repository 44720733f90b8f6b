"""Single weights set to zero."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekd import ref
from edgekd.errors import ModelError
from edgekd.models import network
from edgekd.models.network import Plan
from edgekd.prune.sparse import of_magnitude, of_pattern, sparsify
from edgekd.recipe import Sparse
from edgekd.run import Run

SPEC = "edgekd.models:digits_student"


@given(outputs=st.integers(1, 5), runs=st.integers(1, 4), of=st.integers(1, 6), data=st.data())
@settings(max_examples=60, deadline=None)
def test_of_every_m_inputs_the_n_largest_stay(outputs: int, runs: int, of: int, data: st.DataObject) -> None:
    keep = data.draw(st.integers(1, of))
    weight = torch.randn(outputs, runs * of, 2, 3, generator=torch.Generator().manual_seed(outputs * 7 + of))
    mask = of_pattern(weight, keep, of)
    for output in range(outputs):
        for run in range(runs):
            for pixel in ((0, 0), (1, 2)):
                part = (output, slice(run * of, (run + 1) * of), *pixel)
                kept = weight[part].abs()[mask[part]]
                assert len(kept) == keep
                assert kept.min() >= weight[part].abs().sort(descending=True).values[keep - 1]


def test_magnitude_over_all_layers_keeps_the_largest_of_all() -> None:
    weights = {"a": torch.tensor([[1.0, -5.0], [0.1, 4.0]]), "b": torch.tensor([[0.2, -3.0, 0.3, 2.0]])}
    masks = of_magnitude(weights, 0.5, whole=True)
    assert masks["a"].tolist() == [[False, True], [False, True]]
    assert masks["b"].tolist() == [[False, True, False, True]]


def test_magnitude_by_layer_keeps_the_same_part_of_each() -> None:
    weights = {"a": torch.arange(1.0, 9.0).reshape(2, 4), "b": torch.arange(10.0, 18.0).reshape(2, 4)}
    masks = of_magnitude(weights, 0.25, whole=False)
    assert [int(mask.sum()) for mask in masks.values()] == [2, 2]
    assert masks["b"].flatten().tolist() == [False] * 6 + [True] * 2


def sparse(folder: Path, config: Sparse) -> tuple[dict[str, object], torch.nn.Module]:
    code = ref.resolve(SPEC, folder)
    torch.manual_seed(0)
    network.save(network.build(Plan(model=SPEC), code), folder / "whole")
    metrics = sparsify.function(folder / "sparse", Run(), folder / "whole", code, config)
    return dict(metrics), network.load(folder / "sparse", code).module


def test_the_part_that_is_asked_for_is_left(tmp_path: Path) -> None:
    metrics, module = sparse(tmp_path, Sparse(kind="sparse", keep_weights=0.3))
    trained = [weight for weight in module.parameters() if weight.ndim > 1 and weight.requires_grad]
    left = sum(int(torch.count_nonzero(weight)) for weight in trained)
    assert metrics["weights_kept"] == left
    assert left == round(0.3 * sum(weight.numel() for weight in trained))


def test_protected_layers_and_layers_of_other_widths_keep_all(tmp_path: Path) -> None:
    config = Sparse(kind="sparse", pattern="2:4", protect=("linear",))
    _, module = sparse(tmp_path, config)
    assert torch.count_nonzero(module.get_parameter("linear.weight")) == module.get_parameter("linear.weight").numel()
    first = module.get_parameter("conv1.weight")  # 3 inputs are no multiple of 4
    assert torch.count_nonzero(first) == first.numel()
    second = module.get_parameter("layer1.0.conv1.weight")
    assert torch.count_nonzero(second) == second.numel() // 2


def test_a_pattern_that_fits_no_layer_and_an_unknown_layer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no layer has inputs in multiples of 7"):
        sparse(tmp_path, Sparse(kind="sparse", pattern="2:7"))
    with pytest.raises(ModelError, match=r'prune\.protect: no layer "linaer"'):
        sparse(tmp_path, Sparse(kind="sparse", protect=("linaer",)))
