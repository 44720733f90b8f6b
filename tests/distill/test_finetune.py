"""Fine-tuning refuses what it cannot train before it reads an image."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import NodeProto, TensorProto

from edgekd.distill.finetune import finetune
from edgekd.errors import ModelError
from edgekd.recipe import Finetune
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.train.device import Place
from edgekd.workload.normalisation import Normalisation
from tests.quantize.graphs import graph, node

PLACE = Place(device="cpu", precision="32-true", threads=1, strategy="auto", capability="any")


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node("MatMul", ["x", "x"], "y")], "finds no weight in the graph"),
        ([node("Cast", ["x"], "y", to=TensorProto.DOUBLE)], 'the Cast "cast_y": it makes DOUBLE'),
    ],
)
def test_a_graph_that_cannot_be_trained_is_refused_first(nodes: list[NodeProto], why: str, tmp_path: Path) -> None:
    """Neither the teacher nor the images exist, and none is looked for."""
    onnx.save(graph(nodes, {}), tmp_path / "model.onnx")
    missing = tmp_path / "missing"
    with pytest.raises(ModelError, match=why) as caught:
        finetune.function(
            tmp_path / "out", Run(), repaired=tmp_path, grids={}, levels=127, per_channel=True, in_float=(),
            normalisation=Normalisation(), teacher=missing, teacher_code=Ref("m:f", missing, ()), train=missing,
            val=missing, config=Finetune(), place=PLACE,
        )  # fmt: skip
    assert caught.value.hint == "leave out [finetune]"
