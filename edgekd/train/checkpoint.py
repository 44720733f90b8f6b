"""What a killed training needs to go on: written beside, then renamed, after every epoch."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from edgekd.beside import write_bytes

FILE_NAME = "checkpoint.pt"


@dataclass
class State:
    """A training after `epoch` epochs."""

    epoch: int = 0
    model: dict[str, Any] = field(default_factory=dict)
    criterion: dict[str, Any] = field(default_factory=dict)
    """What the loss itself has learned."""
    average: dict[str, Any] = field(default_factory=dict)
    """The moving average of the weights; empty where there is none."""
    optimizer: dict[str, Any] = field(default_factory=dict)
    kept_epoch: int = 0
    kept: dict[str, Any] = field(default_factory=dict)
    """The weights of the best epoch on validation; empty where the last is taken."""
    first_loss: float | None = None
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)


def save(state: State, file: Path) -> None:
    """Write the state; a kill at any moment leaves the old one or the new one. Raises OSError."""
    # By way of memory: on a full disk torch 2.14's own writer raises a RuntimeError about its archive.
    content = io.BytesIO()
    torch.save(asdict(state), content)
    write_bytes(file, content.getbuffer())


def load(file: Path) -> State:
    """Return the saved state, or a fresh one where there is none."""
    if not file.exists():
        return State()
    return State(**torch.load(file, map_location="cpu", weights_only=True))
