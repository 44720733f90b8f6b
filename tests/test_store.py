"""A stage runs once per content of its inputs, says why it runs again, and survives being killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from edgekd.ref import Ref
from edgekd.run import Run
from edgekd.stage import Artifact, Metrics, PlanEndsError, Stage, stage
from edgekd.store import Store


class Config(BaseModel):
    model_config = ConfigDict(frozen=True)

    upper: bool = False
    times: int = 1


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the store sees more of it."""


class Bench:
    """A store with two tiny stages that count their runs: `write` makes a text, `length` counts its letters."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ran: list[str] = []
        self.lines: list[str] = []
        self.write = stage(writes="text.txt", version=1, tools=("numpy",), name="write")(self._write)
        self.length = stage(writes="length.txt", version=1, name="length")(self._length)

    def store(self, **kwargs: Any) -> Store:
        self.ran.clear()
        self.lines.clear()
        return Store(self.folder, Run(say=self.lines.append), **kwargs)

    def build(self, store: Store, text: str = "abc", config: Config | None = None) -> Artifact:
        made = store.run(self.write, text=text, config=config or Config())
        return store.run(self.length, text=made.path)

    def _write(self, out: Path, run: Run, text: str, config: Config) -> Metrics:
        self.ran.append("write")
        out.write_text((text.upper() if config.upper else text) * config.times)
        return {"letters": len(text)}

    def _length(self, out: Path, run: Run, text: Path) -> Metrics:
        self.ran.append("length")
        length = len(text.read_text())
        out.write_text(str(length))
        return {"length": length}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "store")


def artifacts(folder: Path) -> list[str]:
    return sorted(path.name.rpartition("-")[0] for path in folder.glob("*-*") if path.suffix != ".part")


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.part"))


def test_a_stage_runs_once_per_content(bench: Bench) -> None:
    first = bench.build(bench.store())
    assert bench.ran == ["write", "length"]
    assert bench.lines == ["write runs: not run before", "length runs: not run before"]
    again = bench.build(bench.store())
    assert bench.ran == []
    assert bench.lines == ["write: unchanged, from the store", "length: unchanged, from the store"]
    assert again == first


def test_an_artifact_holds_its_file_and_a_record_of_inputs_and_metrics(bench: Bench) -> None:
    made = bench.build(bench.store())
    record = json.loads((made.path.parent / "record.json").read_text())
    assert (made.stage, made.path.read_text(), made.metrics) == ("length", "3", {"length": 3})
    assert sorted(path.name for path in made.path.parent.iterdir()) == ["length.txt", "record.json"]
    assert set(record) == {"stage", "version", "tools", "arguments", "metrics", "digest"}
    assert set(record["arguments"]["text"]) == {"sha256"}
    assert parts(bench.folder) == []


def test_a_changed_argument_is_named_with_both_values(bench: Bench) -> None:
    bench.build(bench.store())
    bench.build(bench.store(), config=Config(times=2))
    assert bench.lines == ["write runs: times 1 -> 2", "length runs: text changed"]


def test_the_reason_compares_with_the_most_similar_run(bench: Bench) -> None:
    for text, config in (("abc", Config()), ("xyz", Config(upper=True, times=3))):
        bench.build(bench.store(), text, config)
    bench.build(bench.store(), "xyz", Config(upper=True, times=4))
    assert bench.lines[0] == "write runs: times 3 -> 4"


def test_more_than_four_differences_are_cut_short(tmp_path: Path) -> None:
    lines: list[str] = []

    @stage(writes="out", version=1)
    def many(out: Path, run: Run, a: int, b: int, c: int, d: int, e: int) -> Metrics:
        out.touch()
        return {}

    store = Store(tmp_path, Run(say=lines.append))
    store.run(many, a=0, b=0, c=0, d=0, e=0)
    store.run(many, a=1, b=1, c=1, d=1, e=1)
    assert lines[1] == "many runs: a 0 -> 1, b 0 -> 1, c 0 -> 1, d 0 -> 1, …"


def test_a_raised_version_runs_the_stage_again(bench: Bench) -> None:
    bench.build(bench.store())
    bench.write = stage(writes="text.txt", version=2, tools=("numpy",), name="write")(bench._write)
    bench.build(bench.store())
    assert bench.ran == ["write"]
    assert bench.lines[0] == "write runs: edgekd's stage write changed"


def test_another_version_of_a_tool_runs_the_stage_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda tool: "1.0")
    bench.build(bench.store())
    monkeypatch.setattr("importlib.metadata.version", lambda tool: "1.1")
    bench.build(bench.store())
    assert bench.ran == ["write"]
    assert bench.lines[0] == "write runs: numpy 1.0 -> 1.1"


def test_edited_code_is_named_by_its_module(tmp_path: Path) -> None:
    lines: list[str] = []

    @stage(writes="out", version=1)
    def train(out: Path, run: Run, code: Ref) -> Metrics:
        out.touch()
        return {}

    store = Store(tmp_path, Run(say=lines.append))
    for digest in ("aaaa", "bbbb"):
        store.run(train, code=Ref("nets:make", tmp_path, (("nets", digest),)))
    assert lines == ["train runs: not run before", "train runs: code.sources.nets changed"]


def test_equal_bytes_from_an_edit_keep_the_later_stages(bench: Bench) -> None:
    bench.build(bench.store(), text="ABC")
    bench.build(bench.store(), text="ABC", config=Config(upper=True))
    assert bench.ran == ["write"]
    assert bench.lines[-1] == "length: unchanged, from the store"


def test_going_back_to_an_earlier_value_runs_nothing(bench: Bench) -> None:
    for text in ("abc", "xyz"):
        bench.build(bench.store(), text)
    bench.build(bench.store(), "abc")
    assert bench.ran == []


def test_a_folder_as_an_argument_is_hashed_by_what_it_holds(tmp_path: Path) -> None:
    ran: list[int] = []

    @stage(writes="out", version=1)
    def count(out: Path, run: Run, source: Path) -> Metrics:
        ran.append(1)
        out.touch()
        return {}

    (tmp_path / "images").mkdir()
    store = Store(tmp_path / "store")
    for name in ("a", "a", "b"):
        (tmp_path / "images" / name).touch()
        store.run(count, source=tmp_path / "images")
    assert len(ran) == 2


def dying(resumes: bool, seen: list[list[str]]) -> tuple[Stage[...], Callable[[], None]]:
    """Return a stage that is killed once after it wrote a checkpoint beside `out`, and a switch that lets it live."""
    alive = False

    @stage(writes="weights", version=1, resumes=resumes)
    def train(out: Path, run: Run, epochs: int) -> Metrics:
        seen.append(sorted(path.name for path in out.parent.iterdir()))
        (out.parent / "checkpoint.pt").write_text("epoch 1")
        out.write_text("half")
        if not alive:
            raise Killed
        out.write_text("whole")
        return {"epochs": epochs}

    def live() -> None:
        nonlocal alive
        alive = True

    return train, live


def test_a_killed_stage_leaves_its_part_and_no_artifact(tmp_path: Path) -> None:
    train, _ = dying(resumes=True, seen=[])
    with pytest.raises(Killed):
        Store(tmp_path).run(train, epochs=2)
    assert artifacts(tmp_path) == []
    (part,) = parts(tmp_path)
    assert sorted(path.name for path in part.iterdir()) == ["checkpoint.pt", "weights"]


@pytest.mark.parametrize(("resumes", "found"), [(True, ["checkpoint.pt"]), (False, [])])
def test_only_a_stage_that_resumes_finds_its_checkpoint(tmp_path: Path, resumes: bool, found: list[str]) -> None:
    seen: list[list[str]] = []
    lines: list[str] = []
    train, live = dying(resumes, seen)
    with pytest.raises(Killed):
        Store(tmp_path).run(train, epochs=2)
    live()
    made = Store(tmp_path, Run(say=lines.append)).run(train, epochs=2)
    assert seen == [[], found]
    assert lines == ["train runs: not finished before"]
    assert (made.path.read_text(), parts(tmp_path)) == ("whole", [])
    assert sorted(path.name for path in made.path.parent.iterdir()) == ["record.json", "weights"]


def test_a_checkpoint_of_other_arguments_is_not_found(tmp_path: Path) -> None:
    seen: list[list[str]] = []
    train, live = dying(resumes=True, seen=seen)
    with pytest.raises(Killed):
        Store(tmp_path).run(train, epochs=2)
    live()
    Store(tmp_path).run(train, epochs=3)
    assert seen == [[], []]


def test_a_forced_stage_starts_without_the_checkpoint(tmp_path: Path) -> None:
    seen: list[list[str]] = []
    train, live = dying(resumes=True, seen=seen)
    with pytest.raises(Killed):
        Store(tmp_path).run(train, epochs=2)
    live()
    Store(tmp_path, fresh=frozenset({"train"})).run(train, epochs=2)
    assert seen == [[], ["begun-anew"]]


def test_a_forced_stage_that_was_killed_goes_on(tmp_path: Path) -> None:
    seen: list[list[str]] = []
    train, live = dying(resumes=True, seen=seen)
    for _ in range(2):
        with pytest.raises(Killed):
            Store(tmp_path, fresh=frozenset({"train"})).run(train, epochs=2)
    live()
    made = Store(tmp_path, fresh=frozenset({"train"})).run(train, epochs=2)
    assert seen == [
        ["begun-anew"],
        ["begun-anew", "checkpoint.pt"],
        ["begun-anew", "checkpoint.pt"],
    ]
    assert sorted(path.name for path in made.path.parent.iterdir()) == ["record.json", "weights"]


def test_forcing_a_stage_measures_its_epochs_anew_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.choose("train-epochs", {}, lambda: "3") == "3"
    forced = Store(tmp_path, fresh=frozenset({"train"}))
    assert [forced.choose("train-epochs", {}, lambda: "5") for _ in range(2)] == ["5", "5"]
    assert [forced.choose("train-epochs", {}, lambda: "7") for _ in range(2)] == ["5", "5"]


def test_a_half_written_folder_is_gone_before_the_stage_goes_on(tmp_path: Path) -> None:
    tries: list[bool] = []

    @stage(writes="data", version=1, resumes=True)
    def prepare(out: Path, run: Run) -> Metrics:
        tries.append(out.exists())
        out.mkdir()
        if len(tries) == 1:
            raise Killed
        return {}

    with pytest.raises(Killed):
        Store(tmp_path).run(prepare)
    Store(tmp_path).run(prepare)
    assert tries == [False, False]


def test_a_fresh_stage_runs_although_a_result_exists_but_once_per_store(bench: Bench) -> None:
    bench.build(bench.store())
    store = bench.store(fresh=frozenset({"write"}))
    bench.build(store)
    assert bench.lines == ["write runs: asked for by --from", "length: unchanged, from the store"]
    bench.build(store)
    assert bench.ran == ["write"]


def test_a_forced_stage_replaces_its_artifact(tmp_path: Path) -> None:
    numbers = iter(range(2))

    @stage(writes="out", version=1)
    def draw(out: Path, run: Run) -> Metrics:
        number = next(numbers)
        out.write_text(str(number))
        return {"number": number}

    Store(tmp_path).run(draw)
    made = Store(tmp_path, fresh=frozenset({"draw"})).run(draw)
    assert (made.path.read_text(), made.metrics) == ("1", {"number": 1})
    assert artifacts(tmp_path) == ["draw"]


def test_a_plan_creates_nothing_on_disk(bench: Bench) -> None:
    store = bench.store(plan=True)
    made = bench.build(store)
    assert not bench.folder.exists()
    assert bench.ran == []
    assert bench.lines == ["write would run: not run before", "length: will run, its input is not made yet"]
    assert store.missed == ["write", "length"]
    assert (made.measured, made.path.exists()) == (None, False)


def test_a_plan_of_a_finished_build_misses_nothing(bench: Bench) -> None:
    bench.build(bench.store())
    before = sorted(bench.folder.rglob("*"))
    store = bench.store(plan=True)
    bench.build(store)
    assert store.missed == []
    assert sorted(path for path in bench.folder.rglob("*") if path.name != "hashes.json") == [
        path for path in before if path.name != "hashes.json"
    ]


def test_a_plan_names_the_reason_of_a_miss(bench: Bench) -> None:
    bench.build(bench.store())
    bench.build(bench.store(plan=True), config=Config(times=2))
    assert bench.lines[0] == "write would run: times 1 -> 2"


def test_a_plan_ends_where_a_metric_or_a_choice_is_not_there_yet(bench: Bench) -> None:
    store = bench.store(plan=True)
    with pytest.raises(PlanEndsError):
        bench.build(store).require()
    with pytest.raises(PlanEndsError):
        store.choose("ship", {}, lambda: "int8")
    assert not bench.folder.exists()


@pytest.mark.parametrize(
    ("value", "kind"),
    [({1, 2}, "set"), (b"x", "bytes"), (object(), "object"), ([object()], "object"), (len, "builtin")],
)
def test_what_cannot_be_hashed_cannot_be_an_argument(bench: Bench, value: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"a {kind}.* cannot be hashed"):
        bench.store().run(bench.write, text=value, config=Config())
    assert bench.ran == []


def test_arguments_are_given_by_name(bench: Bench) -> None:
    with pytest.raises(TypeError, match="write: arguments of a stage are given by name"):
        bench.store().run(bench.write, "abc", Config())


def test_a_choice_is_measured_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def measure() -> str:
        asked.append("asked")
        return f"answer {len(asked)}"

    answers = [Store(tmp_path).choose("ship", {"model": "a"}, measure) for _ in range(2)]
    assert (answers, len(asked)) == (["answer 1", "answer 1"], 1)


def test_another_question_or_other_inputs_are_measured_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    answers = [
        store.choose(question, inputs, lambda number=number: str(number))
        for number, (question, inputs) in enumerate([("ship", {"m": 1}), ("ship", {"m": 2}), ("bf16", {"m": 1})])
    ]
    assert answers == ["0", "1", "2"]
    assert len(json.loads((tmp_path / "choices.json").read_text())) == 3 + 1  # the seal


def test_a_fresh_choice_is_measured_again_and_written_down(tmp_path: Path) -> None:
    Store(tmp_path).choose("ship", {}, lambda: "old")
    assert Store(tmp_path, fresh=frozenset({"ship"})).choose("ship", {}, lambda: "new") == "new"
    assert Store(tmp_path).choose("ship", {}, lambda: "newer") == "new"


def test_a_store_is_ignored_by_git(tmp_path: Path) -> None:
    Store(tmp_path / "store")
    assert (tmp_path / "store" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("resumes", [False, True])
def test_a_stage_that_fails_leaves_only_what_a_training_goes_on_from(tmp_path: Path, resumes: bool) -> None:
    @stage(writes="out", version=1, name="failing", resumes=resumes)
    def failing(out: Path, run: Run) -> dict[str, Any]:
        (out.parent / "checkpoint").write_text("half way", encoding="utf-8")
        raise ValueError

    with pytest.raises(ValueError):
        Store(tmp_path).run(failing)
    assert [path.name for part in parts(tmp_path) for path in part.iterdir()] == (["checkpoint"] if resumes else [])


def test_a_repeated_stage_runs_once_more_and_equal_bytes_keep_the_later_ones(tmp_path: Path) -> None:
    runs: list[str] = []

    @stage(writes="out", version=1)
    def first(out: Path, run: Run) -> dict[str, Any]:
        runs.append("first")
        out.write_text("same", encoding="utf-8")
        return {}

    @stage(writes="out", version=1)
    def second(out: Path, run: Run, source: Path) -> dict[str, Any]:
        runs.append("second")
        out.write_text("later", encoding="utf-8")
        return {}

    for _ in range(2):
        store = Store(tmp_path)
        store.repeat("first", "it may differ")
        store.run(second, source=store.run(first).path)
    assert runs == ["first", "second", "first"]


def test_what_was_measured_is_a_file_that_is_measured_once(bench: Bench) -> None:
    calls: list[str] = []

    def measure() -> str:
        calls.append("measured")
        return f'{{"times": {len(calls)}}}'

    first = bench.store().measured("latencies", {"shape": [1, 2]}, measure)
    again = bench.store().measured("latencies", {"shape": [1, 2]}, measure)
    other = bench.store().measured("latencies", {"shape": [1, 3]}, measure)
    assert first == again != other
    assert json.loads(first.read_text()) == {"times": 1}
    assert json.loads(other.read_text()) == {"times": 2}


def test_a_plan_ends_where_a_measurement_is_not_there_yet(bench: Bench) -> None:
    store = bench.store(plan=True)
    with pytest.raises(PlanEndsError):
        store.measured("latencies", {}, lambda: "{}")
    assert store.missed == ["latencies"]


def test_from_a_stage_measures_what_is_of_it_again(bench: Bench) -> None:
    bench.store().measured("write-times", {}, lambda: "1")
    store = bench.store(fresh=frozenset({"write"}))
    assert store.measured("write-times", {}, lambda: "2").read_text() == "2"
    assert store.measured("write-times", {}, lambda: "3").read_text() == "2"
