"""Where training runs: device, precision and threads, as a value that enters keys, and as a Fabric."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from pydantic import BaseModel, ConfigDict

from edgekd import host
from edgekd.errors import RecipeError, first_line
from edgekd.recipe import Compute

_COMPILERS = (os.environ.get("CXX", "g++"), "g++", "clang++")
# The numbers of <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


class Place(BaseModel):
    """What decides the bytes of a training beside its inputs; `auto` is resolved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: Literal["cpu", "cuda"]
    precision: Literal["bf16-mixed", "32-true"]
    threads: int
    strategy: str
    compiled: bool = False
    """Whether training runs through torch.compile."""
    capability: str
    """The instruction set that torch's kernels take, or the GPU's compute capability."""


def resolve(config: Compute) -> Place:
    """Look at this machine. Raises RecipeError where it lacks what the recipe asks for."""
    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise RecipeError(
            'compute.device = "cuda", but torch finds no NVIDIA GPU here', 'set compute.device = "cpu" or "auto"'
        )
    device: Literal["cpu", "cuda"] = "cuda" if has_cuda and config.device != "cpu" else "cpu"
    fast_bf16 = device == "cuda" or multiplies_bf16()
    if config.compile and device == "cpu" and not can_compile():
        raise RecipeError(
            "compute.compile = true, but there is no C++ compiler here with Python's headers, as torch.compile needs",
            "install g++ and the headers (python3-dev), or leave compute.compile out",
        )
    half = config.precision == "bf16" or (config.precision == "auto" and fast_bf16)
    return Place(
        device=device,
        precision="bf16-mixed" if half else "32-true",
        threads=config.threads or host.cores(),
        strategy=config.strategy,
        compiled=config.compile,
        capability=_capability(device),
    )


def can_compile() -> bool:
    """Return whether torch.compile finds what it needs on a CPU."""
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return any(map(shutil.which, _COMPILERS)) and headers.is_file()


def multiplies_bf16() -> bool:
    """Return whether this CPU has bf16 instructions; without them autocast is slower than float."""
    cpu = torch.cpu
    return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


def open_fabric(place: Place) -> Fabric:
    """Return the Fabric of a place; sets torch's thread count, which decides the order of its sums."""
    torch.set_num_threads(place.threads)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if place.device == "cpu":
        _keep_freed_memory()
    try:
        fabric = Fabric(accelerator=place.device, devices=1, precision=place.precision, strategy=place.strategy)
    except ValueError as error:
        reason = first_line(error)
        raise RecipeError(f'compute.strategy = "{place.strategy}": {reason}', 'the default is "auto"') from None
    fabric.launch()
    return fabric


def _keep_freed_memory() -> None:
    """Have glibc's malloc keep large freed blocks.

    By default it maps every tensor above 32 MB anew and trims the heap: each step then pays for the page faults of
    all its activations (ResNet-20, batch 128: 2,500 faults a step, a fifth of the time).
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def _capability(device: str) -> str:
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return f"sm_{major}{minor}"
    bf16 = "+bf16" if multiplies_bf16() else ""
    return f"{torch.backends.cpu.get_cpu_capability()}{bf16}"
