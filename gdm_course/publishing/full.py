"""`make full`: each lecture and solution at full budget, with times, memory and outputs."""

import json
import multiprocessing
import platform
import sys
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

import nbformat

from gdm_course.console import forgiving, telling
from gdm_course.environment import cores, must_write
from gdm_course.publishing.elsewhere import Setting, headline, read, table, used
from gdm_course.publishing.execute import BUILD, OWN, Run, because, execute, notebooks
from gdm_course.source import ROOT


def limits() -> dict[str, float]:
    """The budget of one notebook from course.toml: seconds, gigabytes, cell_seconds."""
    text = (ROOT / "gdm_course" / "course.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["budget"]


def over_budget(run: Run, limit: dict[str, float]) -> list[str]:
    """Name what exceeds the budget; empty when all is within."""
    found = []
    if run.seconds > limit["seconds"]:
        found.append(f"{run.seconds:.0f} s of {limit['seconds']:.0f} s")
    if run.peak_gb and run.peak_gb > limit["gigabytes"]:
        found.append(f"{run.peak_gb:.2f} GB of {limit['gigabytes']} GB")
    for index, seconds in run.cells.items():
        if seconds > limit["cell_seconds"]:
            found.append(f"cell {index}: {seconds:.0f} s of {limit['cell_seconds']:.0f} s")
    return found


def record(run: Run, limit: dict[str, float]) -> dict:
    """One notebook's entry of build/full.json."""
    return {
        "notebook": run.path.relative_to(ROOT).as_posix(),
        "seconds": round(run.seconds, 2),
        "slowest_cell_seconds": round(max(run.cells.values(), default=0.0), 2),
        "peak_gb": None if run.peak_gb is None else round(run.peak_gb, 3),
        "cells": {str(i): round(s, 3) for i, s in run.cells.items()},
        "over_budget": over_budget(run, limit),
        "stopped": run.stopped,
        "because": because(run),
        "error": run.error,
    }


def save(run: Run, folder: Path = BUILD / "executed") -> Path:
    """Write the executed copy, in the same tree."""
    target = folder / run.path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(run.notebook, target)
    return target


def machine() -> dict:
    """Where the times were taken."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": cores(),
        "date": time.strftime("%Y-%m-%d"),
    }


def one(setting: Setting, path: Path) -> tuple[Setting, dict]:
    """Run one notebook under one setting, in whichever process."""
    run = execute(path, setting.environment)
    save(run, BUILD / f"executed{setting.suffix}")
    return setting, record(run, limits())


def rows(work: list[tuple[Setting, Path]], jobs: int) -> Iterator[tuple[Setting, dict]]:
    """Run all, so many at once, and hand each entry out when it is there."""
    if jobs == 1:
        yield from (one(*item) for item in work)
        return
    # a process each: nbclient's event loop and signal handlers want a main thread
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from (
            done.result() for done in as_completed([pool.submit(one, *w) for w in work])
        )


def line(setting: Setting, row: dict) -> str:
    """One notebook, one line, and its traceback."""
    remark = "FAILED" if row["error"] else "; ".join(row["over_budget"]) or "within budget"
    memory = f"{row['peak_gb']:.2f} GB" if row["peak_gb"] else "memory unknown"
    start = f"{row['notebook']:<44} {setting!s:<18}" if setting.suffix else row["notebook"]
    said = f"{start:<44} {row['seconds']:6.1f} s  {memory}  {remark}"
    return "\n".join([said, *filter(None, [row["error"]])])


def write(setting: Setting, rows: list[dict], isa: str) -> None:
    """Write what is known so far of one setting: a run of hours may be stopped."""
    BUILD.mkdir(exist_ok=True)
    report = {
        "machine": machine(),
        "setting": {**asdict(setting), "used": isa},
        "limits": limits(),
        "notebooks": rows,
    }
    text = json.dumps(report, indent=1) + "\n"
    (BUILD / f"full{setting.suffix}.json").write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Run the notebooks whose path contains one of the words (all without any)."""
    given = read(arguments)
    chosen = [
        path
        for path in notebooks("lectures", "solutions")
        if not given.words or any(a in path.as_posix() for a in given.words)
    ]
    if not chosen:
        print(f"no lecture or solution has {' or '.join(given.words)} in its path")
        return 1
    must_write(BUILD, OWN)
    isa = {setting: used(setting) for setting in given.settings}
    print(*[headline(setting, found) for setting, found in isa.items()], sep="\n")
    found = {setting: [] for setting in given.settings}
    order = [path.relative_to(ROOT).as_posix() for path in chosen]
    work = [(setting, path) for setting in given.settings for path in chosen]
    for setting, row in rows(work, given.jobs):
        found[setting].append(row)
        found[setting].sort(key=lambda row: order.index(row["notebook"]))
        print(line(setting, row), flush=True)
        write(setting, found[setting], isa[setting])
    return conclude([(s, row) for s, all_rows in found.items() for row in all_rows])


def conclude(all_rows: list[tuple[Setting, dict]]) -> int:
    """Print who stopped where, and return the exit status."""
    if stopped := [(setting, row) for setting, row in all_rows if row["error"]]:
        print(table(stopped))
        return 1
    settings = list(dict.fromkeys(str(setting) for setting, _ in all_rows))
    number = len({row["notebook"] for _, row in all_rows})
    print(f"{number} notebook{'s' * (number > 1)} ran through under {'; '.join(settings)}")
    return 0


if __name__ == "__main__":
    forgiving()
    with telling():
        sys.exit(main(sys.argv[1:]))
