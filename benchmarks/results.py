"""Write a benchmark's figures as JSON, with the machine and the versions that they were taken on."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgekd import host

FOLDER = Path(__file__).parent / "results"


def write(name: str, figures: dict[str, Any], quiet: bool = False) -> None:
    """Write the figures to results/<name>.json, and print them."""
    tools = {tool: version(tool) for tool in ("torch", "onnxruntime", "onnx", "numpy")}
    text = json.dumps({"machine": host.this().name, "tools": tools, **figures}, indent=1)
    if not quiet:
        print(text)
    (FOLDER / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
