"""The content-addressed store: a stage runs once per content of its inputs, and its files are found again.

.edgekd/<stage>-<key>/         the artifact and record.json (inputs and metrics)
.edgekd/<stage>-<key>.part/    a stage at work, or killed; a training stage goes on from the checkpoint in it
.edgekd/hashes.json            hashes of files by path, size, time and inode, as git keeps them
.edgekd/<name>-<key>.json      what was measured and is data, such as how long each layer takes at each width
.edgekd/choices.json           what a measurement chose, once (design: "a measurement may choose, but once")
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias

from filelock import FileLock, Timeout
from pydantic import BaseModel

from edgekd.hashes import HashCache
from edgekd.reasons import differences
from edgekd.ref import Ref
from edgekd.run import Run

Metrics: TypeAlias = dict[str, Any]
P = ParamSpec("P")
_KEY = "[0-9a-f]" * 32
_BEGUN_ANEW = "begun-anew"


@dataclass(frozen=True)
class Stage(Generic[P]):
    """A plain function with what its key needs: it writes `out`, reads its arguments, returns its metrics."""

    name: str
    function: Callable[Concatenate[Path, Run, P], Metrics]
    writes: str
    version: int
    tools: tuple[str, ...]
    resumes: bool


def stage(
    *, writes: str, version: int, tools: tuple[str, ...] = (), name: str = "", resumes: bool = False
) -> Callable[[Callable[Concatenate[Path, Run, P], Metrics]], Stage[P]]:
    """Make a stage of a function `(out, run, ...) -> metrics`.

    `writes` names the file or folder that it makes; raise `version` when its bytes would change; `tools` are the
    distributions whose versions may change its bytes; one that `resumes` keeps a checkpoint beside `out`.
    """

    def decorate(function: Callable[Concatenate[Path, Run, P], Metrics]) -> Stage[P]:
        return Stage(name or function.__name__, function, writes, version, tools, resumes)

    return decorate


@dataclass(frozen=True)
class Artifact:
    """What a stage wrote, and what it measured about it."""

    stage: str
    path: Path
    metrics: Metrics


class PlanEndsError(Exception):
    """Under --plan: what follows depends on a result that does not exist yet."""


class Store:
    """Runs stages and finds their results again. `fresh` stages run although a result exists."""

    def __init__(
        self, folder: Path, run: Run | None = None, fresh: frozenset[str] = frozenset(), plan: bool = False
    ) -> None:
        self.folder = folder
        self.missed: list[str] = []
        self._run = run or Run()
        self._fresh = fresh
        self._plan = plan
        self._done: set[str] = set()
        self._repeated: dict[str, str] = {}
        if not plan:
            folder.mkdir(parents=True, exist_ok=True)
            # A store copied into a repository by mistake is large and of no use there.
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        self._hashes = HashCache(folder / "hashes.json")

    def repeat(self, stage: str, reason: str) -> None:
        """Run this stage once in any case: its inputs cannot all be hashed. Equal output keeps later stages cached."""
        self._repeated[stage] = reason

    def run(self, stage: Stage[P], *args: P.args, **kwargs: P.kwargs) -> Artifact:
        """Return the stage's artifact, running it if its inputs are new. Arguments are given by name."""
        if args:
            raise TypeError(f"{stage.name}: arguments of a stage are given by name")
        pending = [value for value in kwargs.values() if isinstance(value, Path) and not value.exists()]
        if self._plan and pending:
            self._run.say(f"{stage.name}: will run, its input is not made yet")
            return self._miss(stage, "pending")
        identity = self._identity(stage, kwargs)
        key = _key(identity)
        folder = self.folder / f"{stage.name}-{key}"
        repeated = stage.name in self._repeated and not (self._plan and folder.exists())
        forced = (stage.name in self._fresh or repeated) and folder.name not in self._done
        if not forced and (folder / "record.json").exists():
            return self._found(stage, folder)
        forced_by = self._repeated.get(stage.name, "asked for by --from")
        reason = forced_by if forced else self._why(stage.name, identity)
        self._run.say(f"{stage.name} {'would run' if self._plan else 'runs'}: {reason}")
        if self._plan:
            return self._miss(stage, key)
        with self._lock(folder.name):
            if forced or not (folder / "record.json").exists():
                self._make(stage, identity, folder, forced, lambda out: stage.function(out, self._run, *args, **kwargs))
        return self._found(stage, folder, quiet=True)

    def choose(self, question: str, inputs: Mapping[str, Any], measure: Callable[[], str]) -> str:
        """Return what was chosen for these inputs before, or measure, write the answer down, and return it.

        Under --plan an open choice ends the plan.
        """
        file = self.folder / "choices.json"
        key = f"{question}-{_key(inputs)}"
        # The file is replaced whole: reading it needs no lock.
        choices = _read(file)
        if key in choices and not self._is_asked_anew(question, key):
            return choices[key]
        self._end_plan(question)
        choice = measure()
        self._done.add(key)
        with self._lock("choices"):
            _write(file, json.dumps({**_read(file), key: choice}, indent=1, sort_keys=True))
        return choice

    def measured(self, name: str, inputs: Mapping[str, Any], measure: Callable[[], str]) -> Path:
        """Return the file of what was measured for these inputs before, or measure and write it: data, not a choice.

        Under --plan a measurement that is not there yet ends the plan.
        """
        file = self.folder / f"{name}-{_key(inputs)}.json"
        if not file.exists() or self._is_asked_anew(name, file.name):
            self._end_plan(name)
            text = measure()
            self._done.add(file.name)
            with self._lock(name):
                _write(file, text)
        return file

    def _end_plan(self, question: str) -> None:
        """Under --plan, say once that something would be measured, and end the plan."""
        if self._plan and question not in self.missed:
            self._run.say(f"{question}: would be measured")
            self.missed.append(question)
        if self._plan:
            raise PlanEndsError

    def say(self, line: str) -> None:
        """Tell what was decided between two stages."""
        self._run.say(line)

    def digest(self, path: Path) -> str:
        """Return the sha256 of a file, or of a folder's names and contents."""
        return self._hashes.digest(path)

    def metrics(self, artifact: Artifact) -> Metrics:
        """Return an artifact's metrics; under --plan, one that is not made yet ends the plan."""
        if self._plan and not artifact.path.exists():
            raise PlanEndsError
        return artifact.metrics

    def _is_asked_anew(self, question: str, key: str) -> bool:
        """Whether --from names the stage that a measurement is of, by the first word of its question."""
        return question.partition("-")[0] in self._fresh and key not in self._done

    def _found(self, stage: Stage[P], folder: Path, quiet: bool = False) -> Artifact:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        if not quiet and folder.name not in self._done:
            self._run.say(f"{stage.name}: unchanged, from the store")
        self._done.add(folder.name)
        self._hashes.save()
        return Artifact(stage.name, folder / stage.writes, record["metrics"])

    def _miss(self, stage: Stage[P], key: str) -> Artifact:
        self.missed.append(stage.name)
        return Artifact(stage.name, self.folder / f"{stage.name}-{key}" / stage.writes, {})

    def _make(
        self, stage: Stage[P], identity: Metrics, folder: Path, forced: bool, work: Callable[[Path], Metrics]
    ) -> None:
        part = folder.with_name(folder.name + ".part")
        # One that --from began and a kill ended goes on, as any other does.
        begun = part / _BEGUN_ANEW
        if part.exists() and (not stage.resumes or (forced and not begun.exists())):
            shutil.rmtree(part)
        part.mkdir(exist_ok=True)
        if forced:
            begun.touch()
        out = part / stage.writes
        # Killed after the stage, before the rename: what it wrote is whole only with its record.
        if out.is_dir():
            shutil.rmtree(out)
        try:
            metrics = work(out)
        except Exception:
            # Nothing half-written is left, but for what a training needs to go on.
            if not stage.resumes or all(path == begun for path in part.iterdir()):
                shutil.rmtree(part)
            raise
        record = {**identity, "metrics": metrics}
        _write(part / "record.json", json.dumps(record, indent=1, sort_keys=True))
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
        # Only now: a kill before the rename must find the checkpoint again.
        for other in folder.iterdir():
            if other.name not in (stage.writes, "record.json"):
                shutil.rmtree(other) if other.is_dir() else other.unlink()

    def _lock(self, name: str) -> FileLock:
        locks = self.folder / "locks"
        locks.mkdir(exist_ok=True)
        lock = FileLock(locks / f"{name}.lock")
        try:
            lock.acquire(timeout=0)
            lock.release()
        except Timeout:
            self._run.say(f"waiting: another build works on {name}")
        return lock

    def _identity(self, stage: Stage[P], arguments: Mapping[str, Any]) -> Metrics:
        return {
            "stage": stage.name,
            "version": stage.version,
            "tools": {tool: _version(tool) for tool in stage.tools},
            "arguments": {name: self._content(value) for name, value in arguments.items()},
        }

    def _content(self, value: Any) -> Any:
        if isinstance(value, Path):
            return {"sha256": self._hashes.digest(value)}
        return _plain(value)

    def _why(self, name: str, identity: Metrics) -> str:
        """Say what differs from the most similar earlier run of this stage."""
        best: list[str] | None = None
        for record in self.folder.glob(f"{name}-{_KEY}/record.json"):
            old = json.loads(record.read_text(encoding="utf-8"))
            found = differences(old, identity)
            if best is None or len(found) < len(best):
                best = found
        if best is None:
            killed = any(self.folder.glob(f"{name}-{_KEY}.part"))
            return "not finished before" if killed else "not run before"
        return ", ".join(best[:4]) + (", …" if len(best) > 4 else "")


def _version(tool: str) -> str:
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        # onnxruntime comes under the names of its builds.
        return importlib.metadata.version(f"{tool}-gpu")


def _plain(value: Any) -> Any:
    """Return the JSON form of a value that can be hashed; nothing else can be an argument of a stage."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Ref):
        return value.content()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be hashed")


def _key(inputs: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(_plain(inputs))).hexdigest()[:32]


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _read(file: Path) -> dict[str, str]:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _write(file: Path, text: str) -> None:
    beside = file.with_name(file.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(file)
