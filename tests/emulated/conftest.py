"""The arm64 sandbox as a fixture."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from sandbox import Sandbox

HERE = Path(__file__).parent


def _load(path: Path) -> ModuleType:
    # The tests are no package, so a neighbour is loaded by its path.
    name = f"emulated_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def sandbox() -> "Sandbox":
    """The arm64 sandbox; without one the tests are skipped, but on a CI machine with apt-get they fail."""
    module = _load(HERE / "sandbox.py")
    try:
        built: Sandbox = module.build(module.default_folder())
    except module.UnavailableError as error:
        reason = str(error)
    else:
        return built
    if os.environ.get("CI") == "true" and shutil.which("apt-get"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
