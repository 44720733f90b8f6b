"""The content-addressed store: a stage runs once per content of its inputs, and its files are found again.

.edgekd/<stage>-<key>/           the artifact, and record.json: its inputs, its metrics, and a digest that must fit
.edgekd/<stage>-<key>.part/      a stage at work, or killed; a training stage resumes from the checkpoint in it
.edgekd/<stage>-<key>.damaged/   an artifact that did not fit its record, set aside
.edgekd/….gone/                  what is being deleted: renamed first, so that nothing half-deleted keeps its name
.edgekd/hashes.json              hashes of files by path, size, time and inode, as git keeps them
.edgekd/<name>-<key>.json        what was measured and is data, such as how long each layer takes at each width
.edgekd/choices.json             what a measurement chose, once (design: "a measurement may choose, but once")
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec

from filelock import FileLock, Timeout

from edgekd import choices, record, slot
from edgekd.beside import write_text
from edgekd.hashes import HashCache
from edgekd.keys import PATTERN, key_of, plain, version_of
from edgekd.reasons import differences
from edgekd.record import DamagedError, Record
from edgekd.run import Run
from edgekd.slot import Slot
from edgekd.stage import Artifact, PlanEndsError, Stage

P = ParamSpec("P")


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
        self._done: dict[str, Record | None] = {}
        self._repeated: dict[str, str] = {}
        if not plan:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / ".gitignore").exists():
                # A store copied into a repository by mistake is large and of no use there.
                write_text(folder / ".gitignore", "*\n")
            slot.sweep(folder)
        self._hashes = HashCache(folder / "hashes.json")

    def repeat(self, stage: str, reason: str) -> None:
        """Run this stage once in any case: its inputs cannot all be hashed. Equal output keeps later stages cached."""
        self._repeated[stage] = reason

    def run(self, stage: Stage[P], *args: P.args, **kwargs: P.kwargs) -> Artifact:
        """Return the stage's artifact, running it if its inputs are new. Arguments are given by name.

        An artifact that does not fit its record is set aside, and made again.
        """
        if args:
            raise TypeError(f"{stage.name}: arguments of a stage are given by name")
        pending = [value for value in kwargs.values() if isinstance(value, Path) and not value.exists()]
        if self._plan and pending:
            self._run.say(f"{stage.label}: will run, its input is not made yet")
            return self._miss(stage, "pending")
        asked = self._record(stage, kwargs)
        key = key_of(asked.identity)
        place = Slot(self.folder / f"{stage.name}-{key}", stage.writes, stage.resumes, self._hashes)
        if self._is_forced(stage, place.folder):
            self._run.say(self._will_run(stage, self._repeated.get(stage.name, "asked for by --from")))
        else:
            try:
                if (found := self._read(place)) is not None:
                    return self._found(stage, place, found)
                self._run.say(self._will_run(stage, self._why(asked)))
            except DamagedError as error:
                self._run.say(f"{stage.label}: {error}: {'would run' if self._plan else 'runs'} again")
        if self._plan:
            return self._miss(stage, key)
        with self._lock(place.folder.name):
            made = self._made(stage, asked, place, lambda out: stage.function(out, self._run, *args, **kwargs))
        return self._found(stage, place, made, quiet=True)

    def choose(self, question: str, inputs: Mapping[str, Any], measure: Callable[[], str]) -> str:
        """Return what was chosen for these inputs before, or measure, write the answer down, and return it.

        Under --plan an open choice ends the plan.
        """
        key = f"{question}-{key_of(inputs)}"
        # The file is replaced whole: reading it needs no lock.
        known = self._choices()
        if key in known and not self._is_asked_anew(question, key):
            return known[key]
        self._end_plan(question)
        choice = measure()
        self._done[key] = None
        self._note(key, choice)
        return choice

    def measured(self, name: str, inputs: Mapping[str, Any], measure: Callable[[], str]) -> Path:
        """Return the file of what was measured for these inputs before, or measure and write it: data, not a choice.

        Under --plan a measurement that is not there yet ends the plan.
        """
        file = self.folder / f"{name}-{key_of(inputs)}.json"
        known = self._choices().get(file.name)
        is_whole = file.exists() and known in {None, self._hashes.digest(file)}
        if file.exists() and not is_whole:
            self._run.say(f"{name}: its file is damaged: {'would be measured' if self._plan else 'measured'} again")
        if not is_whole or self._is_asked_anew(name, file.name):
            self._end_plan(name)
            text = measure()
            self._done[file.name] = None
            write_text(file, text)
            known = None
        if known is None and not self._plan:
            self._note(file.name, self._hashes.digest(file))
        return file

    def say(self, line: str) -> None:
        """Report what was decided between two stages."""
        self._run.say(line)

    def digest(self, path: Path) -> str:
        """Return the sha256 of a file, or of a folder's names and contents."""
        return self._hashes.digest(path)

    def _end_plan(self, question: str) -> None:
        """Under --plan, say once that something would be measured, and end the plan."""
        if self._plan and question not in self.missed:
            self._run.say(f"{question}: would be measured")
            self.missed.append(question)
        if self._plan:
            raise PlanEndsError

    def _is_asked_anew(self, question: str, key: str) -> bool:
        """Whether --from names the stage that a measurement is of, by the first word of its question."""
        return question.partition("-")[0] in self._fresh and key not in self._done

    def _is_forced(self, stage: Stage[P], folder: Path) -> bool:
        repeated = stage.name in self._repeated and not (self._plan and folder.exists())
        return (stage.name in self._fresh or repeated) and folder.name not in self._done

    def _will_run(self, stage: Stage[P], reason: str) -> str:
        return f"{stage.label} {'would run' if self._plan else 'runs'}: {reason}"

    def _read(self, place: Slot) -> Record | None:
        """Return the record of a whole artifact, or None where there is none. Raises DamagedError.

        What was looked at once is not read again: a build takes seconds to hours, and rots between builds.
        """
        return self._done.get(place.folder.name) or place.read()

    def _found(self, stage: Stage[P], place: Slot, found: Record, quiet: bool = False) -> Artifact:
        if not quiet and place.folder.name not in self._done:
            self._run.say(f"{stage.label}: unchanged, from the store")
        self._done[place.folder.name] = found
        if not self._plan:
            place.tidy()
        self._hashes.save()
        return Artifact(stage.name, place.folder / stage.writes, found.metrics)

    def _miss(self, stage: Stage[P], key: str) -> Artifact:
        self.missed.append(stage.name)
        return Artifact(stage.name, self.folder / f"{stage.name}-{key}" / stage.writes, None)

    def _made(self, stage: Stage[P], asked: Record, place: Slot, work: Callable[[Path], dict[str, Any]]) -> Record:
        """Run a stage, under its lock, unless another build has just done so."""
        forced = self._is_forced(stage, place.folder)
        try:
            if not forced and (found := self._read(place)) is not None:
                return found
        except DamagedError:
            slot.set_aside(place.folder)
        return place.fill(asked, forced, work)

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

    def _choices(self) -> dict[str, str]:
        """Return what was chosen before; a damaged file is set aside."""
        file = self.folder / "choices.json"
        try:
            return choices.read(file)
        except choices.DamagedChoicesError:
            self._run.say("choices.json is damaged: what it held is measured again")
            if not self._plan:
                slot.set_aside(file)
            return {}

    def _note(self, key: str, answer: str) -> None:
        with self._lock("choices"):
            choices.write(self.folder / "choices.json", {**self._choices(), key: answer})

    def _record(self, stage: Stage[P], arguments: Mapping[str, Any]) -> Record:
        """Return the record of a stage that did not run yet: all that its key is made of."""
        return Record(
            stage=stage.name,
            subject=stage.subject,
            version=stage.version,
            tools={tool: version_of(tool) for tool in stage.tools},
            arguments={name: self._content(value) for name, value in arguments.items()},
            metrics={},
        )

    def _content(self, value: Any) -> Any:
        if isinstance(value, Path):
            return {"sha256": self._hashes.digest(value)}
        return plain(value)

    def _why(self, asked: Record) -> str:
        """Say what differs from the most similar earlier run of this stage on the same subject."""
        best: list[str] | None = None
        for folder in self.folder.glob(f"{asked.stage}-{PATTERN}"):
            with contextlib.suppress(DamagedError):
                old = record.read(folder)
                found = differences(old.identity, asked.identity)
                if old.subject == asked.subject and (best is None or len(found) < len(best)):
                    best = found
        if best is None:
            killed = any(self.folder.glob(f"{asked.stage}-{PATTERN}.part"))
            return "not finished before" if killed else "not run before"
        return ", ".join(best[:4]) + (", …" if len(best) > 4 else "")
