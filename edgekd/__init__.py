"""edgekd: from a trained PyTorch teacher to a small, right and fast int8 ONNX file on a named device.

    build(recipe, targets="arm64") -> Build       what `edgekd build` does
    Build, Built, Report                          what it wrote: bundles, and the numbers of each
    Run, Progress                                 where the lines and the progress of a build go
    Recipe                                        a checked edgekd.toml
    Dataset, Split                                what a user's data function returns
    EdgekdError                                   a mistake that the user can mend, with a hint

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekd.errors import EdgekdError
    from edgekd.pipeline import Build, Built, build
    from edgekd.recipe import Recipe
    from edgekd.report.contents import Report
    from edgekd.run import Progress, Run
    from edgekd.workload.dataset import Dataset, Split

__version__ = "0.1.0"
__all__ = [
    "Build", "Built", "Dataset", "EdgekdError", "Progress", "Recipe", "Report", "Run", "Split", "__version__", "build",
]  # fmt: skip

_HOMES = {
    "Build": "edgekd.pipeline",
    "Built": "edgekd.pipeline",
    "Dataset": "edgekd.workload.dataset",
    "EdgekdError": "edgekd.errors",
    "Progress": "edgekd.run",
    "Recipe": "edgekd.recipe",
    "Report": "edgekd.report.contents",
    "Run": "edgekd.run",
    "Split": "edgekd.workload.dataset",
    "build": "edgekd.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgekd' has no attribute '{name}'")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
