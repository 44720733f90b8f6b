"""Speed and time left of a training, shown twice a second and once per epoch."""

from __future__ import annotations

import time

from edgekd.run import Progress, Run

_SECONDS_BETWEEN_SIGNS = 0.5


class Clock:
    """The progress of epoch `number`. `images` are those of an epoch, `accuracy` is the one of the epoch before."""

    def __init__(
        self, stage: str, epochs: int, number: int, steps: int, images: int, accuracy: float | None, run: Run
    ) -> None:
        self._stage = stage
        self._epochs = epochs
        self._number = number
        self._steps = steps
        self._images = images
        self._accuracy = accuracy
        self._run = run
        self._start = self._last = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the last sign is long ago; asking costs no look at the device."""
        return time.monotonic() - self._last >= _SECONDS_BETWEEN_SIGNS

    def sign(self, steps: int, loss: float) -> None:
        """Show progress within the epoch."""
        self._last = time.monotonic()
        speed = steps / self._steps * self._images / (self._last - self._start)
        val = f"  val {100 * self._accuracy:.2f} %" if self._accuracy is not None else ""
        self._show(steps / self._steps, f"loss {loss:.4f}{val}  {speed:.0f} images/s")

    def epoch_done(self, loss: float, accuracy: float) -> None:
        """Say how the epoch went."""
        seconds = time.monotonic() - self._start
        left = seconds * (self._epochs - self._number - 1)
        note = (
            f"loss {loss:.4f}  val {100 * accuracy:.2f} %  {self._images / seconds:.0f} images/s  "
            f"{int(left) // 60}m{int(left) % 60:02d}s left"
        )
        self._show(1.0, note, milestone=True)

    def _show(self, part: float, note: str, milestone: bool = False) -> None:
        done = round(1000 * (self._number + part))
        text = f"epoch {self._number + 1}/{self._epochs}  {note}"
        self._run.show(Progress(self._stage, done, 1000 * self._epochs, text, milestone))
