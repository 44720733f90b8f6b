"""Whether a machine is a device follows from architecture, instructions and GPU."""

from __future__ import annotations

from typing import Any

import pytest

from edgekd import host
from edgekd.host import Host, why_not
from edgekd.target import Device


def machine(**fields: Any) -> Host:
    given = {"cpu": "Some CPU", "cores": 4, "architecture": "x86_64", "instructions": frozenset({"avx2"}), "gpu": ""}
    return Host(**{**given, **fields})


def test_a_machine_of_the_devices_kind_is_the_device() -> None:
    assert why_not(Device(architecture="x86_64", instructions=("avx2",)), machine()) is None


def test_another_architecture_is_named_with_both_names() -> None:
    reason = why_not(Device(architecture="aarch64"), machine())
    assert reason == "this machine is x86_64, the target is aarch64"


def test_a_lacking_instruction_is_named() -> None:
    device = Device(architecture="x86_64", instructions=("avx2", "avx512f"))
    assert why_not(device, machine()) == "this CPU lacks avx512f"


@pytest.mark.parametrize("flag", ["avx512_vnni", "avx_vnni"])
def test_one_of_two_alternative_instructions_is_enough(flag: str) -> None:
    device = Device(architecture="x86_64", instructions=("avx512_vnni|avx_vnni",))
    assert why_not(device, machine(instructions=frozenset({flag}))) is None


def test_of_two_lacking_alternatives_both_are_named() -> None:
    device = Device(architecture="x86_64", instructions=("avx512_vnni|avx_vnni",))
    assert why_not(device, machine()) == "this CPU lacks avx512_vnni or avx_vnni"


def test_a_lacking_gpu_is_named_and_a_present_one_is_enough() -> None:
    device = Device(architecture="x86_64", gpu="nvidia")
    assert why_not(device, machine()) == "this machine has no nvidia GPU"
    assert why_not(device, machine(gpu="Some GPU")) is None


@pytest.mark.parametrize(
    ("architecture", "flags", "saturates"),
    [
        ("x86_64", {"avx2"}, True),
        ("x86_64", {"avx2", "avx_vnni"}, False),
        ("x86_64", {"avx512_vnni"}, False),
        ("aarch64", {"asimd"}, False),
    ],
)
def test_only_x86_without_vnni_saturates(architecture: str, flags: set[str], saturates: bool) -> None:
    assert machine(architecture=architecture, instructions=frozenset(flags)).saturates is saturates


def test_a_name_holds_cpu_cores_architecture_and_the_gpu_if_any() -> None:
    assert machine().name == "Some CPU, 4 cores (x86_64)"
    assert machine(gpu="Some GPU").name == "Some CPU, 4 cores (x86_64), Some GPU"


def test_this_machine_has_a_name_cores_and_a_known_architecture() -> None:
    here = host.this()
    assert here.cpu
    assert here.cores >= 1
    assert here.architecture == here.architecture.lower()
    assert here.architecture not in {"amd64", "arm64"}
