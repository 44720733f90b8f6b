"""What this machine is, and whether it is a target. It is named by CPU model and cores, never by its host name."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from edgekd.target import Device

_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


class Host(BaseModel):
    """This machine, as results name it."""

    model_config = ConfigDict(frozen=True)

    cpu: str
    cores: int
    architecture: str
    instructions: frozenset[str]
    gpu: str

    @property
    def name(self) -> str:
        """CPU model and cores, and the GPU if there is one."""
        gpu = f", {self.gpu}" if self.gpu else ""
        return f"{self.cpu}, {self.cores} cores ({self.architecture}){gpu}"

    @property
    def saturates(self) -> bool:
        """Whether uint8 × int8 sums may saturate here: x86 without VNNI."""
        return self.architecture == "x86_64" and not {"avx512_vnni", "avx_vnni"} & self.instructions


def arithmetic() -> str:
    """Return which instruction set decides the last bits of onnxruntime's float sums, and whether integers saturate."""
    here = this()
    wide = "avx512" if any(flag.startswith("avx512") for flag in here.instructions) else here.architecture
    return f"{wide} {here.saturates}"


def kernels() -> str:
    """Return all that decides the last bits of onnxruntime's float sums here: `arithmetic`, and the threads."""
    return f"{arithmetic()} {this().cores}"


def cores() -> int:
    """Return how many cores this process may use."""
    # Not on macOS and Windows, where a process may use all.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def this() -> Host:
    """Return this machine."""
    machine = platform.machine().lower()
    fields = _cpuinfo()
    flags = fields.get("flags") or fields.get("Features") or ""
    model = fields.get("model name") or f"{machine} CPU {fields.get('CPU part', '')}".strip()
    return Host(
        cpu=" ".join(model.split()),
        cores=cores(),
        architecture=_ARCHITECTURES.get(machine, machine),
        instructions=frozenset(flags.split()),
        gpu=_gpu(),
    )


def why_not(device: Device, host: Host) -> str | None:
    """Return why this machine is not the device, or None if it is."""
    if device.architecture != host.architecture:
        return f"this machine is {host.architecture}, the target is {device.architecture}"
    for wanted in device.instructions:
        if not set(wanted.split("|")) & host.instructions:
            return f"this CPU lacks {wanted.replace('|', ' or ')}"
    if device.gpu != "none" and not host.gpu:
        return f"this machine has no {device.gpu} GPU"
    return None


def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {"model name": platform.processor() or platform.machine()}
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def _gpu() -> str:
    """Return the name of the first NVIDIA GPU, as its driver tells."""
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("Model:"):
                return line.partition(":")[2].strip()
    return ""
