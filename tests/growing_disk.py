"""Build the toy on a tmpfs that is too small, and let it grow until the build fits; run in a mount namespace.

    python growing_disk.py TOY FOLDER

Writes FOLDER/found.json: what each try said on stderr that failed (its end), the digests of the model that came out in
the end and of one that was built without trouble, and what of half-written things is left.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from edgekd import cli, pipeline, project

_FIRST_KB = 400
"""Not even the data fits."""
_STEP_KB = 64, 700
"""By little after the data, where the stages write; the data itself is in one piece."""


def build(toy: Path, work: Path, errors: Path) -> int:
    """Run `edgekd build` in a child, and return its exit code."""
    child = os.fork()
    if child == 0:
        # Both would keep a disk from being full at all: the check for room, and the rehearsal's few stages elsewhere.
        project._check_room = lambda *_: None
        pipeline._rehearse = lambda *_: None
        os.dup2(os.open(errors, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["edgekd", "build", str(toy), "--target", "arm64", "--store", str(work / "store")]
        sys.argv += ["--out", str(work / "dist"), "--set", "compute.threads=1"]
        try:
            cli.main()
        except SystemExit as left:
            os._exit(int(left.code or 0))
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def digest(work: Path) -> str:
    """Return the sha256 of the bundle's model."""
    return hashlib.sha256((work / "dist/toy-arm64/model.onnx").read_bytes()).hexdigest()


def main() -> None:
    """Build without trouble, then on the disk."""
    toy, folder = Path(sys.argv[1]), Path(sys.argv[2])
    shutil.copytree(toy, folder / "toy", ignore=shutil.ignore_patterns("__pycache__", ".edgekd", "dist"))
    said = folder / "stderr.txt"
    assert build(folder / "toy", folder / "easy", said) == 0, said.read_text()
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_FIRST_KB}k", "tmpfs", disk], check=True)
    size, errors = _FIRST_KB, []
    while build(folder / "toy", disk, said) != 0:
        errors.append(said.read_text().strip()[-1500:])
        size += _STEP_KB[0] if any(disk.glob("store/prepare-*[0-9a-f]")) else _STEP_KB[1]
        subprocess.run(["mount", "-o", f"remount,size={size}k", disk], check=True)
    left = sorted(
        path.name
        for path in disk.rglob("*")
        if path.suffix in {".part", ".gone", ".new", ".damaged"} or ".toy" in path.name
    )
    found = {"errors": errors, "model": digest(disk), "wanted": digest(folder / "easy"), "left": left}
    (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
