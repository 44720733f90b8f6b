"""The stage `finetune`: quantization-aware distillation of the ONNX graph itself, on exactly the target's grid."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import onnx

from edgekd.distill.criterion import Supervise, UnderTeacher
from edgekd.distill.teacher import frozen
from edgekd.errors import ModelError
from edgekd.models import network
from edgekd.recipe import Finetune
from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.stage import Metrics, stage
from edgekd.train import batches, loop
from edgekd.train.device import Place, open_fabric
from edgekd.train.loop import Course
from edgekd.train.onnx_module import OnnxModule, Rounding, Step
from edgekd.train.onnx_node import LEAVE_OUT
from edgekd.workload.normalisation import Normalisation

_TOOLS = ("torch", "torchvision", "lightning-fabric", "onnx", "numpy")


@stage(writes="repaired", version=3, tools=_TOOLS, resumes=True, trains=True)
def finetune(  # noqa: PLR0913, PLR0917 - all that its key is made of
    out: Path,
    run: Run,
    repaired: Path,
    grids: Mapping[str, tuple[float, int, int, int]],
    levels: int,
    per_channel: bool,
    in_float: tuple[str, ...],
    normalisation: Normalisation,
    teacher: Path,
    teacher_code: Ref,
    train: Path,
    val: Path,
    config: Finetune,
    place: Place,
) -> Metrics:
    """Write the repaired graph with weights that were trained while rounded; its ranges stay as they were observed.

    `grids` are (scale, zero point, least, most) by tensor, `levels` the largest integer of a weight; `normalisation`
    makes the graph's input of pixels. Raises ModelError, before anything is trained, for a graph that cannot be.
    """
    # bf16 has no more bits than the grid that is to be imitated.
    exact = place.model_copy(update={"precision": "32-true"})
    fabric = open_fabric(exact)
    model = onnx.load(repaired / "model.onnx")
    rounding = Rounding({name: Step(*grid) for name, grid in grids.items()}, levels, per_channel, frozenset(in_float))
    module = OnnxModule(model, rounding)
    if not module.names:
        raise ModelError("fine-tuning finds no weight in the graph: what multiplies is computed", LEAVE_OUT)
    ask = frozen(network.load(teacher, teacher_code), fabric, place) if config.terms else None
    supervise: Supervise | None = (lambda batch: ask(batch.pixels)) if ask is not None else None
    examples, held = (batches.read(split, fabric.device) for split in (train, val))
    course = Course("finetune", examples, held, normalisation, config, keep_best=config.select == "best")
    outcome = loop.fit(module, UnderTeacher(config, supervise, None), course, fabric, out.parent, run)
    module.write_back(model)
    out.mkdir()
    onnx.save(model, out / "model.onnx")
    for kept in ("entry.json", "float.json"):
        shutil.copyfile(repaired / kept, out / kept)
    return {
        "epoch": outcome.epoch,
        "epochs": config.epochs,
        "kept": config.select,
        "val_accuracy": outcome.accuracies[outcome.epoch - 1],
        "losses": list(outcome.losses),
        "val_accuracies": list(outcome.accuracies),
    }
