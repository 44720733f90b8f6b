"""Recipes, targets and overrides that were spoilt at random: an answer to the user, never a stack trace."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekd import pipeline
from edgekd import recipe as recipes
from edgekd import target as targets
from edgekd.errors import EdgekdError

TOY = Path(__file__).parent / "toy"
RECIPES = 2000
VALUES = (
    "-1", "0", "1", "1.5", "1e400", "-1e-400", "nan", "inf", "true", '""', '"x"', "''", "[]", "[[]]", "{}", "{ a = 1 }",
    "[1, 2, 3]", '["a", 1]', "9" * 30, "9" * 5000, "0x7f", "1979-05-27T07:32:00Z", "07:32:00", '"\\u0000"', '"\\ud7ff"',
    '"C:\\new"', '"C:\\Users"', "[" * 50 + "]" * 50, "[" * 3000 + "]" * 3000, '"../../x"', '"/"', '"os:getcwd"',
    '"json:loads"', '"a.b.c:d"', '":"', '"' + "x" * 5000 + '"', "'''\n'''", "{ kind = 1 }", '{ kind = "kd" }',
)  # fmt: skip
BYTES = (
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\r",
    b"\n",
    b'"',
    b"'",
    b"[",
    b"]",
    b"=",
    b".",
    b"#",
    b"\\",
    b"{",
    b"\xc3",
)
Spoil = Callable[[random.Random, bytes], bytes]


def flipped(draw: random.Random, text: bytes) -> bytes:
    at = draw.randrange(len(text))
    return text[:at] + bytes([text[at] ^ 1 << draw.randrange(8)]) + text[at + 1 :]


def inserted(draw: random.Random, text: bytes) -> bytes:
    at = draw.randrange(len(text))
    return text[:at] + draw.choice(BYTES) * draw.choice((1, 1, 3)) + text[at:]


def cut(draw: random.Random, text: bytes) -> bytes:
    start, end = sorted(draw.randrange(len(text)) for _ in range(2))
    return text[:start] + text[min(end, start + 40) :]


def shuffled(draw: random.Random, text: bytes) -> bytes:
    """Put one line somewhere else, so that a key is in another table, or there twice."""
    lines = text.split(b"\n")
    lines.insert(draw.randrange(len(lines)), draw.choice(lines))
    if draw.random() < 0.5:
        del lines[draw.randrange(len(lines))]
    return b"\n".join(lines)


def revalued(draw: random.Random, text: bytes) -> bytes:
    lines = text.split(b"\n")
    keyed = [number for number, line in enumerate(lines) if b"=" in line and not line.startswith(b"#")]
    at = draw.choice(keyed)
    lines[at] = lines[at].partition(b"=")[0] + b"= " + draw.choice(VALUES).encode()
    return b"\n".join(lines)


def deepened(draw: random.Random, text: bytes) -> bytes:
    lines = text.split(b"\n")
    lines.insert(draw.randrange(len(lines)), b"a" + b".b" * draw.choice((3, 40, 2000)) + b" = 1")
    return b"\n".join(lines)


SPOILS: tuple[Spoil, ...] = (flipped, inserted, cut, shuffled, revalued, revalued, revalued, deepened)


def spoilt(draw: random.Random, text: bytes) -> bytes:
    for _ in range(draw.choice((1, 1, 2, 5))):
        if b"=" in text:
            text = draw.choice(SPOILS)(draw, text)
    return text


@pytest.mark.slow
def test_a_spoilt_recipe_or_target_is_planned_or_refused_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "recipe"
    shutil.copytree(TOY, folder, ignore=shutil.ignore_patterns("__pycache__", ".edgekd", "dist"))
    recipe = (folder / recipes.FILE_NAME).read_bytes() + b"\n[[distill.loss]]\nkind = 'kd'\nweight = 0.5\n"
    files = [file.read_bytes() for file in sorted(targets.folder().glob("*.toml"))]
    answers: dict[str, int] = {"fine": 0, "refused": 0}
    for seed in range(RECIPES):
        draw = random.Random(seed)
        (folder / recipes.FILE_NAME).write_bytes(spoilt(draw, recipe))
        (folder / "mine.toml").write_bytes(spoilt(draw, draw.choice(files)))
        key = draw.choice(("distill.lr", "prune", "data.size", "teacher.args.classes", "a.b", "name", "quantize.float"))
        for given, target in (((), "arm64"), ((f"{key}={draw.choice(VALUES)}",), str(folder / "mine.toml"))):
            try:
                pipeline.plan(recipes.load(folder, given), [target], store=tmp_path / "store")
                targets.load(target)
                answers["fine"] += 1
            except EdgekdError as error:
                assert error.message and error.hint, seed
                answers["refused"] += 1
            except Exception as error:
                raise AssertionError(f"seed {seed}: {type(error).__name__}") from error
    assert sum(answers.values()) == 2 * RECIPES
    assert min(answers.values()) >= RECIPES // 40, f"one of the two ways is hardly tried: {answers}"
