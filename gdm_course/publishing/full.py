"""`make full`: each lecture and solution at full budget, with times, memory and outputs."""

import json
import os
import platform
import sys
import time
import tomllib
from pathlib import Path

import nbformat

from gdm_course.publishing.execute import BUILD, Run, environment, execute, notebooks
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
        "error": run.error,
    }


def save(run: Run) -> Path:
    """Write the executed copy to build/executed, in the same tree."""
    target = BUILD / "executed" / run.path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(run.notebook, target)
    return target


def machine() -> dict:
    """Where the times were taken."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
    }


def main(arguments: list[str]) -> int:
    """Run the notebooks whose path contains one of the arguments (all without any)."""
    chosen = [
        path
        for path in notebooks("lectures", "solutions")
        if not arguments or any(a in path.as_posix() for a in arguments)
    ]
    if not chosen:
        print(f"no lecture or solution has {' or '.join(arguments)} in its path")
        return 1
    limit, rows = limits(), []
    for path in chosen:
        run = execute(path, environment(check=True))
        save(run)
        rows.append(row := record(run, limit))
        remark = "FAILED" if run.error else "; ".join(row["over_budget"]) or "within budget"
        memory = f"{run.peak_gb:.2f} GB" if run.peak_gb else "memory unknown"
        print(f"{row['notebook']:<44} {run.seconds:6.1f} s  {memory}  {remark}", flush=True)
        print(run.error or "", end="\n" if run.error else "")
    BUILD.mkdir(exist_ok=True)
    report = {"machine": machine(), "limits": limit, "notebooks": rows}
    (BUILD / "full.json").write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(row["error"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
