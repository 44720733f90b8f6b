"""How pixels become what a network sees."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Normalisation(BaseModel):
    """`(pixel - mean) / std` per RGB channel, in pixel units 0-255. Lies beside the weights, never in them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, float, float] = (128.0, 128.0, 128.0)
    """One common mean by default: then zero padding and normalisation commute, and absorption is exact."""
    std: tuple[float, float, float] = (64.0, 64.0, 64.0)
