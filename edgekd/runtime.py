"""onnxruntime sessions: opened as asked or not at all, and run over arrays of any length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edgekd.errors import ModelError, TargetError
from edgekd.host import Host
from edgekd.target import Runtime, Target

_LOG_ERRORS_ONLY = 3


class Settings(BaseModel):
    """How a session is opened; a plain value that can enter a key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    threads: int = 1
    entries: dict[str, str] = {}
    """Session configuration entries."""


def settings_of(runtime: Runtime) -> Settings:
    """Return the settings by which a target's own runtime opens a model."""
    return Settings(providers=runtime.providers, threads=runtime.threads, entries=runtime.session)


def exact_here(target: Target, host: Host, threads: int) -> Settings:
    """Return CPU settings under which this host gives the answer that the target will give.

    On x86 without VNNI, uint8 × int8 with 8-bit weights saturates; `session.x64quantprecision` has onnxruntime avoid
    that at the cost of speed. 7-bit weights need no such thing.
    """
    full_range = target.int8 is not None and not target.int8.reduce_range
    entries = {"session.x64quantprecision": "1"} if full_range and host.saturates else {}
    return Settings(threads=threads, entries=entries)


def check_provider(wanted: str) -> None:
    """Raise TargetError where this onnxruntime was built without a provider."""
    available = ort.get_available_providers()
    if wanted not in available:
        raise TargetError(
            f"this onnxruntime has no {wanted} (it has {', '.join(available)})",
            "install the build of onnxruntime that has it; for CUDA: pip install 'edgekd[gpu]'",
        )


def open_session(model: Path, settings: Settings, optimized: Path | None = None) -> Any:
    """Return an onnxruntime session on the asked provider; `optimized` receives the graph that really runs.

    Raises TargetError where the provider is missing (onnxruntime itself only warns and takes another), ModelError
    where the file is no model.
    """
    wanted = settings.providers[0]
    check_provider(wanted)
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    for key, value in settings.entries.items():
        options.add_session_config_entry(key, value)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    try:
        session = ort.InferenceSession(str(model), options, providers=list(settings.providers))
    except Exception as error:
        # onnxruntime's exceptions share no base class but this one.
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{model.name} is not a model that onnxruntime takes: {reason}", "is it an ONNX file?"
        ) from None
    if session.get_providers()[0] != wanted:
        raise TargetError(
            f"asked for {wanted}, onnxruntime gave {session.get_providers()[0]}",
            "its libraries are missing or do not fit; onnxruntime's own log names them",
        )
    return session


def run(session: Any, images: NDArray[Any], batch: int = 100) -> NDArray[np.float32]:
    """Return the first output for all images, `batch` at a time."""
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: images[start : start + batch]})[0] for start in range(0, len(images), batch)]
    return np.concatenate(parts)
