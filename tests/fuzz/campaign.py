"""Run damaged files by the thousand, in processes of their own, so that a crash or a hang is laid to one file.

    python -m tests.fuzz.campaign KIND SEED FIRST COUNT LIMIT FOLDER

opens the files of one batch and appends a JSON line before and after each to FOLDER/log; `run` starts such processes.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import subprocess
import sys
import traceback
import unicodedata
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgekd.errors import EdgekdError
from tests.fuzz.cases import KINDS, Case

_ROOT = Path(__file__).parent.parent.parent
_LIMIT_S = 60
"""Of one file, in seconds. Most take milliseconds; the machine may be busy."""
_MEMORY = 6 * 2**30
_STARTS = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile"}
    | {"pickle.find_class", "socket.connect", "webbrowser.open", "urllib.Request"}
)
"""Python's names of what a file must never bring about: a program, an unpickled object, a connection."""
_PROGRAMS = ("gs", "djpeg", "ppmtogif", "convert", "magick", "xdg-open")


@dataclass(frozen=True)
class Found:
    """What became of the files."""

    fine: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    """What no file may bring about: another exception, a crash, a hang, something that runs."""


def run(kind: str, seed: int, count: int, folder: Path, limit: int = _LIMIT_S) -> Found:
    """Open `count` damaged files of a kind, for at most `limit` seconds each."""
    programs, ran = folder / "programs", folder / "ran"
    programs.mkdir(parents=True)
    for name in _PROGRAMS:
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> "{ran}"\n')
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    failures: list[str] = []
    first, log = 0, folder / "log"
    while first < count:
        batch = [kind, *map(str, (seed, first, count, limit, folder))]
        command = [sys.executable, "-m", "tests.fuzz.campaign", *batch]
        with (folder / "output").open("wb") as output:
            ended = subprocess.run(command, cwd=_ROOT, env=environment, stdout=output, stderr=output, check=False)
        if ended.returncode == 0:
            break
        # The last file that was begun ended the process: by a signal, or by the watchdog of a hang.
        last = json.loads(log.read_text().splitlines()[-1])["number"]
        said = (folder / "output").read_text(errors="replace")[-2000:]
        failures.append(f"{kind} {seed}/{last}: the process ended with {ended.returncode}: {said}")
        first = last + 1
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    failures += [f"{kind} {seed}/{row['number']}: {row['failure']}" for row in rows if "failure" in row]
    failures += [f"ran: {ran.read_text()}"] if ran.exists() else []
    outcomes = [row.get("outcome") for row in rows]
    return Found(outcomes.count("fine"), outcomes.count("refused"), failures)


def damaged(case: Case, seed: int, number: int) -> tuple[str, bytes]:
    """Return the name and the content of one damaged file."""
    generator = np.random.default_rng([seed, number])
    files = sorted(case.files.items())
    name, content = files[number % len(files)]
    return name, case.damaged(content, generator)


def _batch(kind: str, seed: int, numbers: range, limit: int, folder: Path) -> None:
    # A declared size of terabytes must show as an exception, not as a machine without memory.
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    warnings.simplefilter("ignore")
    case = KINDS[kind]
    started: list[str] = []
    sys.addaudithook(lambda event, arguments: started.append(f"{event}{arguments!r}") if event in _STARTS else None)
    with (folder / "log").open("a") as log:
        for number in numbers:
            print(json.dumps({"number": number}), file=log, flush=True)
            faulthandler.dump_traceback_later(limit, exit=True)
            row = _one(case, seed, number, folder)
            if started:
                row = {"failure": f"started {started.pop()}"}
            started.clear()
            print(json.dumps({"number": number, **row}), file=log, flush=True)


def _one(case: Case, seed: int, number: int, folder: Path) -> dict[str, str]:
    name, content = damaged(case, seed, number)
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / name).write_bytes(content)
    try:
        case.open(place / name, number, place)
    except EdgekdError as error:
        kinds = {unicodedata.category(each) for each in f"{error.message}{error.hint}" if each != "\n"}
        if not error.hint or kinds & {"Cc", "Cs", "Zl", "Zp"}:
            return {"failure": f"{error.message!r}, hint {error.hint!r}"}
        return {"outcome": "refused", "message": error.message}
    except BaseException:
        return {"failure": traceback.format_exc()}
    return {"outcome": "fine"}


if __name__ == "__main__":
    _kind, _seed, _first, _count, _limit, _folder = sys.argv[1:]
    _batch(_kind, int(_seed), range(int(_first), int(_count)), int(_limit), Path(_folder))
