"""Files of strangers, damaged by the thousand: each gives a result or one error for the user, whatever it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.campaign import Found, run
from tests.fuzz.cases import ODD, WILD

SEED = 20261


def opened(kind: str, count: int, folder: Path) -> Found:
    found = run(kind, SEED, count, folder)
    assert not found.failures, "\n\n".join(found.failures[:5])
    assert found.fine + found.refused == count
    return found


@pytest.mark.slow
def test_a_campaign_notices_what_no_file_may_bring_about(tmp_path: Path) -> None:
    """An exception, a crash, a hang, a program, memory by the terabyte, no hint: each is laid to its file."""
    found = run("misbehaving", 0, 8, tmp_path, limit=3)
    failures = {failure.partition(": ")[0].rpartition("/")[2]: failure for failure in found.failures}
    assert (found.fine, found.refused) == (1, 1)
    assert sorted(failures) == ["0", "2", "3", "4", "5", "6", "ran"]
    assert "ValueError: escaped" in failures["0"]
    assert "the process ended with -6" in failures["2"]
    assert "Timeout" in failures["3"]
    assert "started subprocess.Popen" in failures["4"]
    assert "MemoryError" in failures["5"]
    assert "no hint" in failures["6"]
    assert failures["ran"] == "ran: gs --version\n"


@pytest.mark.slow
def test_4000_damaged_images_are_read_or_unreadable_and_start_nothing(tmp_path: Path) -> None:
    assert opened("images", 4000, tmp_path).fine > 400, "damage that is found at once proves little"


@pytest.mark.slow
def test_2000_damaged_npz_files_are_read_or_one_error(tmp_path: Path) -> None:
    assert opened("npz", 2000, tmp_path).fine > 200


@pytest.mark.slow
def test_3000_damaged_onnx_files_are_quantized_and_timed_or_one_error(tmp_path: Path) -> None:
    assert opened("onnx", 3000, tmp_path).fine > 300


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not ODD, reason="the odd files of others lie beside the checkout only")
def test_odd_onnx_files_of_others_may_be_damaged_as_well(tmp_path: Path) -> None:
    opened("odd", 500, tmp_path)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(not WILD, reason="the models of others lie beside the checkout only")
def test_onnx_files_in_use_may_be_damaged_as_well(tmp_path: Path) -> None:
    opened("wild", 200, tmp_path)
