"""edgekd: from a trained PyTorch teacher to a small, right and fast int8 ONNX file on a named device.

    build(recipe, targets=["arm64"]) -> Build     what `edgekd build` does
    Dataset, Split                                what a user's data function returns

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekd.pipeline import Build, build
    from edgekd.workload.dataset import Dataset, Split

__version__ = "0.1.0"
__all__ = ["Build", "Dataset", "Split", "__version__", "build"]

_HOMES = {
    "build": "edgekd.pipeline",
    "Build": "edgekd.pipeline",
    "Dataset": "edgekd.workload.dataset",
    "Split": "edgekd.workload.dataset",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgekd' has no attribute '{name}'")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(_HOMES[name]), name)
