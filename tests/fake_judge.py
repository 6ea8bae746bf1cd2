"""A judge without boxes: `gdm grade` as it is, but a file's own metadata say its mark."""

import csv
import io
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from typer.main import get_command

from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.judge.verdict import Mark, Result, Status, restore
from gdm_course.grading.marks import batch
from gdm_course.grading.marks.cli import app

UNITS = ("foundations/densities", "flows/maf")


@pytest.fixture
def judge(monkeypatch):
    """The judge; what it finds holds as long as the file does."""

    def judged(job: batch.Job) -> Result:
        first = json.loads(job.path.read_bytes())["metadata"]["mark"]
        unit, earned, version = first["unit"], first["earned"], os.environ["GDM_VERSION"]
        if earned is None:
            raise batch.Rejected("broken")
        mark = Mark("first", 3, earned, Status.GRADED, "said")
        return Result(job.key, unit, version, Status.GRADED, "", (mark,), "L3", 1, 1)

    monkeypatch.setenv("GDM_VERSION", "now")
    monkeypatch.setattr(batch, "_judged", judged)
    monkeypatch.setattr("gdm_course.grading.marks.cli._rung", lambda *_: LADDER[-1])
    monkeypatch.setattr(batch, "fresh", lambda path, rung: restore(path))


def put(path: Path, earned: float | None, unit: str = UNITS[0], text: str = "") -> None:
    family, _, name = unit.partition("/")
    metadata = {"mark": {"unit": unit, "earned": earned}, "text": text}
    metadata["gdm"] = {"source": f"solutions/{family}/src/{name}.py"}
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(whole))


def gdm(*arguments: object, code: int = 0) -> str:
    given = [*map(str, arguments)]
    done = CliRunner(env={"COLUMNS": "300"}).invoke(get_command(app), given)
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.output


def grade(*arguments: object, out: Path, code: int = 0) -> str:
    return gdm(*arguments, "--out", out, "--jobs", 1, code=code)


def rows(out: Path, name: str = "marks") -> list[dict]:
    text = (out / f"{name}.csv").read_bytes().decode("utf-8-sig")
    return [*csv.DictReader(io.StringIO(text, newline=""), strict=True)]


def marks(out: Path) -> dict[str, str]:
    return {row["file"]: row["earned"] for row in rows(out)}
