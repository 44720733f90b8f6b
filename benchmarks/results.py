"""Write a benchmark's figures as JSON, with the machine and the versions that they were taken on."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgekd import host

FOLDER = Path(__file__).parent / "results"


def write(name: str, figures: dict[str, Any]) -> None:
    """Print the figures and write them to results/<name>.json."""
    tools = {tool: version(tool) for tool in ("torch", "onnxruntime", "onnx", "numpy")}
    text = json.dumps({"machine": host.this().name, "tools": tools, **figures}, indent=1)
    print(text)
    (FOLDER / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
