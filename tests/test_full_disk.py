"""A disk that is full at one stage after another: each time one error, then the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TOY

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]
SCRIPT = Path(__file__).parent / "growing_disk.py"


@pytest.mark.slow
def test_a_build_on_a_disk_that_is_full_again_and_again_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """The disk, a tmpfs of our own, grows by a little after each failure; all stages that write much fail once."""
    if sys.platform != "linux" or subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs Linux, and the right to mount a tmpfs in a namespace of one's own")
    done = subprocess.run(
        [*NAMESPACE, sys.executable, str(SCRIPT), str(TOY), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert all(line.startswith("error: the disk is full") for line in found["errors"]), found["errors"]
    assert len(found["errors"]) >= 7
    assert found["model"] == found["wanted"]
    assert found["left"] == []
