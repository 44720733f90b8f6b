"""Watches losses and gradients of an epoch on the device, and looks only now and then: a look waits for the device."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from edgekd.errors import DivergedError
from edgekd.recipe import Training
from edgekd.train.schedule import learning_rate

_DIVERGED = 100.0


class Watch:
    """One epoch's steps. `first` is the loss of the very first step, from which divergence is judged."""

    def __init__(
        self,
        stage: str,
        config: Training,
        number: int,
        steps: int,
        first: float | None,
        device: torch.device,
        checkpoint: Path | None = None,
    ) -> None:
        self.first = first
        self._stage = stage
        self._config = config
        self._number = number
        self._checkpoint = checkpoint
        self._losses = torch.zeros(steps, device=device)
        self._norms = torch.zeros(steps, device=device)
        self._done = 0

    def note(self, loss: Tensor, norm: Tensor) -> None:
        """Take the next step's loss and the norm of its gradients; does not wait for the device."""
        self._losses[self._done] = loss.detach()
        self._norms[self._done] = norm
        self._done += 1

    def wait(self) -> None:
        """Wait for the device, whatever the losses are."""
        self._losses[self._done - 1].item()

    def mean(self) -> float:
        """Return the mean so far.

        Raises DivergedError for the first step whose loss or gradient is no number, or whose loss has run away.
        """
        losses, norms = self._losses[: self._done].cpu(), self._norms[: self._done].cpu()
        if self.first is None:
            self.first = float(losses[0])
        limit = _DIVERGED * max(1.0, abs(self.first))
        bad = ~(losses.abs() <= limit) | ~norms.isfinite()
        if bad.any():
            index = int(bad.nonzero()[0])
            self._stop(index, float(losses[index]), abs(float(losses[index])) <= limit)
        return float(losses.mean())

    def _stop(self, index: int, loss: float, by_gradient: bool) -> None:
        config, steps = self._config, len(self._losses)
        step = self._number * steps + index
        rate = learning_rate(config, step, config.epochs * steps)
        finite = abs(loss) < float("inf")
        what = f"the loss has run away to {loss:.3g}" if finite else "the loss is not a number"
        what = "the gradient is not a number" if by_gradient else what
        kept = f"; epoch {self._number}, the last good one, is kept in {self._checkpoint}" if self._number else ""
        raise DivergedError(
            f"{self._stage}: {what} at step {step} (epoch {self._number + 1}, batch {index + 1} of {steps}, "
            f"learning rate {rate:.4g}, batch size {config.batch})",
            f"lower the learning rate, or bound the gradients with clip{kept}",
        )
