"""The table `[quantize]`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgekd.recipe.basis import Table

Precision = Literal["int8", "fp16", "float"]
Calibrator = Literal["min-max", "percentile", "entropy", "mse"]
Switch = bool | Literal["auto"]
"""`auto`: where it helps, by the signal-to-noise ratio of the answers on calibration images."""


class Quantize(Table):
    """Static quantization with a calibration set drawn from train. What is not given is the target's choice."""

    samples: Annotated[int, Field(ge=1)] = 512
    """Calibration images, stratified by class. Where it is not given and train holds fewer: all of them."""
    precision: Precision | Literal["auto"] = "auto"
    """`auto`: what the target says; `float`: no quantization."""
    calibrator: Literal["auto", "min-max", "percentile", "entropy", "mse"] = "auto"
    """How the range of an activation follows from its values; see quantize/ranges.py. `auto`: mse first."""
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.999
    """The part of the values, in percent, that the range of `percentile` holds."""
    equalise: Switch = "auto"
    """Cross-layer equalisation (Nagel 2019), before the weights are rounded."""
    absorb_bias: Switch = "auto"
    """High-bias absorption (Nagel 2019)."""
    correct_bias: Switch = "auto"
    """Bias correction (Nagel 2019), after the weights are rounded."""
    rounding: Literal["auto", "nearest", "optq"] = "auto"
    """`optq`: each weight goes up or down so that its layer's output changes least; `auto`: where a budget needs it."""
    in_float: Annotated[tuple[str, ...], Field(alias="float")] = ()
    """Nodes that stay in float: names, or globs such as "/model.22/*", as in the file that is quantized."""
    effort: Literal["quick", "normal", "thorough"] = "normal"
    """How much is tried while the accuracy budget is missed: nothing, what is likely to help, or everything."""
    study: Annotated[int, Field(ge=0, le=20)] = 0
    """Quantize with so many other draws of calibration images too, as first tried; report the spread on validation."""
    activations: Literal["uint8", "int8"] | None = None
    weights: Literal["uint8", "int8"] | None = None
    per_channel: bool | None = None
    reduce_range: bool | None = None
    symmetric: bool | None = None

    def for_repair(self) -> Quantize:
        """Return what decides the bytes of the stage `repair`, and the defaults for the rest."""
        update = {"equalise": self.equalise, "absorb_bias": self.absorb_bias, "in_float": self.in_float}
        return self.for_ranges(self.calibrators()[0]).model_copy(update=update)

    def calibrators(self) -> tuple[Calibrator, ...]:
        """Return the calibrators to try, the first one first; none but that which is asked for by name."""
        return ("mse", "min-max") if self.calibrator == "auto" else (self.calibrator,)

    def for_ranges(self, calibrator: Calibrator) -> Quantize:
        """Return what decides the grids of activations, and the defaults for the rest."""
        percentile = {"percentile": self.percentile} if calibrator == "percentile" else {}
        return Quantize(calibrator=calibrator).model_copy(update=percentile)

    def for_rounding(self, calibrator: Calibrator, rounding: Literal["nearest", "optq"]) -> Quantize:
        """Return what decides the bytes of the stage `quantize`, and the defaults for the rest."""
        update = {"correct_bias": self.correct_bias, "rounding": rounding}
        return self.for_ranges(calibrator).model_copy(update=update)
