"""A checkpoint is the old one or the new one, never a half."""

import os
from pathlib import Path

import pytest
import torch

from edgekd.train import checkpoint
from edgekd.train.checkpoint import State


def test_no_file_is_a_fresh_state(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "none.pt") == State()


def test_state_comes_back(tmp_path: Path) -> None:
    model, kept = {"w": torch.arange(4.0)}, {"w": torch.ones(4)}
    state = State(3, model, kept_epoch=2, kept=kept, first_loss=2.5, losses=[0.5, 0.25], accuracies=[0.1, 0.9])
    checkpoint.save(state, tmp_path / "c.pt")
    back = checkpoint.load(tmp_path / "c.pt")
    assert (back.epoch, back.kept_epoch, back.first_loss) == (3, 2, 2.5)
    assert (back.losses, back.accuracies) == ([0.5, 0.25], [0.1, 0.9])
    assert torch.equal(back.model["w"], torch.arange(4.0))
    assert torch.equal(back.kept["w"], torch.ones(4))


def test_kill_while_writing_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "c.pt"
    checkpoint.save(State(epoch=1), file)

    def killed(descriptor: int) -> None:
        assert (tmp_path / "c.pt.new").stat().st_size > 0, "it is written, and has not its name yet"
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(State(epoch=2), file)
    assert checkpoint.load(file).epoch == 1


def test_nothing_is_left_beside(tmp_path: Path) -> None:
    checkpoint.save(State(), tmp_path / "c.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]
