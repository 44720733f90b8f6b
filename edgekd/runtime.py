"""onnxruntime sessions: opened as asked or not at all, and run over arrays of any length."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto
from pydantic import BaseModel, ConfigDict

from edgekd.errors import ModelError, TargetError, first_line
from edgekd.host import Host
from edgekd.target import Runtime, Target

_LOG_ERRORS_ONLY = 3
_MOST_VALUES = 2**28
"""1 GiB of float32, an image of more than 16384×5400 pixels."""


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


def settings_for(runtime: Runtime, on_target: bool) -> Settings:
    """Return a target's own settings where this machine is it; else the CPU's, with as many threads."""
    return settings_of(runtime) if on_target else Settings(threads=runtime.threads)


def exact_here(target: Target, host: Host, threads: int) -> Settings:
    """Return CPU settings under which this host gives the answer that the target will give.

    On x86 without VNNI, uint8 × int8 with 8-bit weights saturates; `session.x64quantprecision` has onnxruntime avoid
    that at the cost of speed. 7-bit weights need no such thing.
    """
    full_range = target.int8 is not None and not target.int8.reduce_range
    return without_saturation(host, threads) if full_range else Settings(threads=threads)


def without_saturation(host: Host, threads: int) -> Settings:
    """Return CPU settings under which uint8 × int8 sums do not saturate here, at the cost of speed where they would."""
    return Settings(threads=threads, entries={"session.x64quantprecision": "1"} if host.saturates else {})


def check_provider(wanted: str) -> None:
    """Raise TargetError where this onnxruntime was built without a provider."""
    available = ort.get_available_providers()
    if wanted not in available:
        raise TargetError(
            f"this onnxruntime has no {wanted} (it has {', '.join(available)})",
            "install the build of onnxruntime that has it; for CUDA: pip install 'edgekd[gpu]'",
        )


def open_session(model: Path, settings: Settings, optimized: Path | None = None, profile: Path | None = None) -> Any:
    """Return an onnxruntime session on the asked provider; `optimized` receives the graph that really runs.

    `profile` is the beginning of the name of the file that onnxruntime's profiler writes.

    Raises TargetError where the provider is missing (onnxruntime itself only warns and takes another), ModelError
    where the file is no model.
    """
    try:
        str(model).encode()
    except UnicodeEncodeError:
        raise ModelError(
            f"onnxruntime opens no path that is not UTF-8: {model}", "rename the file, or the folder that it lies in"
        ) from None
    options = options_of(settings)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    return _opened(str(model), model.name, settings, options)


def open_model(model: ModelProto, settings: Settings) -> Any:
    """Return a session as `open_session` does, of a model in memory."""
    return _opened(model.SerializeToString(), "the graph", settings, options_of(settings))


def check_opens(model: ModelProto, name: str) -> None:
    """Raise ModelError for a model that onnxruntime does not run; it is opened as it stands, without optimisation."""
    options = options_of(Settings())
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    check_interface(name, _opened(model.SerializeToString(), name, Settings(), options))


def check_interface(name: str, session: Any) -> None:
    """Raise ModelError for a session that returns nothing, or takes more at once than memory should be spent on."""
    if not session.get_outputs():
        raise ModelError(f"{name} has no output", "export the model with what it returns")
    for value in session.get_inputs():
        check_shape(name, value.name, [side for side in value.shape if isinstance(side, int)])


def check_shape(name: str, given: str, shape: Sequence[int]) -> None:
    """Raise ModelError for a shape of a model's input that takes more at once than memory should be spent on."""
    if (size := math.prod(shape)) > _MOST_VALUES:
        raise ModelError(
            f"the input {given} of {name} takes {size} values at once",
            f"at most {_MOST_VALUES} are fed: export it for the size that it will run at",
        )


def options_of(settings: Settings) -> Any:
    """Return the session options that the settings ask for."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    for key, value in settings.entries.items():
        options.add_session_config_entry(key, value)
    return options


def _opened(model: str | bytes, name: str, settings: Settings, options: Any) -> Any:
    wanted = settings.providers[0]
    check_provider(wanted)
    try:
        session = ort.InferenceSession(model, options, providers=list(settings.providers))
    except Exception as error:
        # onnxruntime's exceptions share no base class but this one.
        raise ModelError(
            f"{name} is not a model that onnxruntime takes: {_reason(error)}",
            "is it an ONNX file, and not damaged? onnxruntime must open it: export it again",
        ) from None
    if session.get_providers()[0] != wanted:
        raise TargetError(
            f"asked for {wanted}, onnxruntime gave {session.get_providers()[0]}",
            "its libraries are missing or do not fit; onnxruntime's own log names them",
        )
    return session


def _reason(error: Exception) -> str:
    """Return what onnxruntime says, without its codes and the places in its own source."""
    said = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:", "", first_line(error))
    return re.sub(r"/\S+\.(cc|h):\d+ .*?\) (?=\S)", "", said).strip()


def answer(session: Any, names: list[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the named outputs for one batch of inputs. Raises ModelError where the graph does not take them."""
    if not names:
        return []  # onnxruntime would take that for all outputs
    try:
        found: list[NDArray[Any]] = session.run(names, dict(inputs))
    except Exception as error:
        # onnxruntime's exceptions share no base class but this one.
        shapes = ", ".join(f"{name} {value.dtype} {list(value.shape)}" for name, value in inputs.items())
        raise ModelError(
            f"the graph does not take the data ({shapes}): {first_line(error)}",
            "the data's names, types and shapes must be those of the graph's inputs",
        ) from None
    return found


def run(session: Any, images: NDArray[Any], batch: int = 100) -> NDArray[np.float32]:
    """Return the first output for all images, `batch` at a time."""
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: images[start : start + batch]})[0] for start in range(0, len(images), batch)]
    return np.concatenate(parts)
