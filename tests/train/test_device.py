"""Where training runs, as a value that can enter a key."""

import os
import shutil

import pytest
import torch

from edgekd.errors import RecipeError
from edgekd.recipe import Compute
from edgekd.train import device
from edgekd.train.device import Place, open_fabric, resolve


def test_asked_threads_and_precision_are_taken() -> None:
    place = resolve(Compute(device="cpu", precision="float", threads=3))
    assert (place.device, place.precision, place.threads, place.strategy) == ("cpu", "32-true", 3, "auto")
    assert resolve(Compute(device="cpu", precision="bf16")).precision == "bf16-mixed"


def test_zero_threads_are_all_cores_that_this_process_may_use() -> None:
    assert resolve(Compute(device="cpu")).threads == len(os.sched_getaffinity(0))


def test_cuda_without_a_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RecipeError, match="finds no NVIDIA GPU"):
        resolve(Compute(device="cuda"))
    assert resolve(Compute()).device == "cpu"


def test_unknown_strategy_is_named() -> None:
    place = Place(
        device="cpu", precision="32-true", threads=torch.get_num_threads(), strategy="magic", capability="any"
    )
    with pytest.raises(RecipeError, match=r'compute\.strategy = "magic"'):
        open_fabric(place)


def test_compiling_on_a_cpu_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RecipeError, match=r"there is no C\+\+ compiler here"):
        resolve(Compute(device="cpu", compile=True))
    monkeypatch.setattr(device, "can_compile", lambda: True)
    assert resolve(Compute(device="cpu", compile=True)).compiled
