"""All stages in their order: for --from, and for whether a build trains."""

from __future__ import annotations

from edgekd.distill.finetune import finetune
from edgekd.distill.stage import distill, recover, teach, train_teacher
from edgekd.errors import EdgekdError, did_you_mean
from edgekd.evaluate.stage import evaluate
from edgekd.export.stage import export, simplify
from edgekd.models.stage import initialise
from edgekd.prune.sparse import sparsify
from edgekd.prune.stage import couple, prune
from edgekd.quantize.calibrate import calibrate
from edgekd.quantize.repair import repair
from edgekd.quantize.sensitivity import sensitivity
from edgekd.quantize.stage import convert, quantize
from edgekd.stage import Stage
from edgekd.workload.stage import draw, prepare

STAGES: tuple[Stage[...], ...] = (
    prepare, draw, initialise, train_teacher, teach, couple, distill, prune, sparsify, recover,
    export, simplify, repair, calibrate, finetune, sensitivity, convert, quantize, evaluate,
)  # fmt: skip
"""All stages, each after those whose results it may read."""
ORDER = (*(each.name for each in STAGES), "ship")
"""What --from takes. The last one is no stage: what ships is chosen by a measurement, and then kept."""


def stages_from(stage: str) -> frozenset[str]:
    """Return the names of the stages from one on; none for an empty name. Raises EdgekdError for an unknown one."""
    if not stage:
        return frozenset()
    if stage not in ORDER:
        raise EdgekdError(f'--from: unknown stage "{stage}"', f"{_meant(stage)}stages: {', '.join(ORDER)}")
    return frozenset(ORDER[ORDER.index(stage) :])


def _meant(stage: str) -> str:
    """Return which stages were meant, where the word is another one for what they do."""
    others = {"train": ("teacher", "distill"), "data": ("prepare",), "finetuning": ("finetune",), "int8": ("quantize",)}
    meant = [known for word, names in others.items() if word in stage.lower() for known in names if known in ORDER]
    return f"did you mean {' or '.join(meant)}? " if meant else did_you_mean(stage, ORDER)
