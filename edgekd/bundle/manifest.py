"""manifest.json: what an embedded developer must know to use model.onnx, and how to tell that it works."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """A part of the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Input(Table):
    """What the app feeds."""

    name: str
    type: str
    shape: tuple[str | int, ...]
    layout: str
    colour: str
    preprocessing: str


class Output(Table):
    """What the app gets."""

    name: str
    type: str
    shape: tuple[str | int, ...]
    meaning: str


class Golden(Table):
    """How golden.npz is compared: bit by bit where the graph is integer throughout, else within a tolerance."""

    file: str
    images: int
    exact: bool
    tolerance: float


class Manifest(Table):
    """The contract of a bundle."""

    format: int = 1
    name: str
    target: str
    precision: str
    input: Input
    output: Output
    labels: tuple[str, ...]
    opset: int
    ir: int
    providers: tuple[str, ...]
    threads: int
    session: dict[str, str]
    golden: Golden
    files: dict[str, str]
    """sha256 of each other file."""
