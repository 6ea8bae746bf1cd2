"""`make bench`: tables of ratios, waiting times, graders; all of it in build/bench.json.

ARGS="--quick" leaves graders and lectures out, which take most of the time.
"""

import json
import sys
from dataclasses import asdict

import torch

from gdm_course.publishing import full
from gdm_course.publishing.execute import BUILD
from tests.benchmarks import grading, seconds, speed
from tests.benchmarks.harness import table


def budget_line(row: dict) -> str:
    """One notebook's times beside its budget."""
    state = (row["error"] and "FAILED") or "; ".join(row["over_budget"]) or "within budget"
    slowest = f"slowest cell {row['slowest_cell_seconds']:.1f} s"
    cost = f"{row['seconds']:6.1f} s, {slowest}, {row['peak_gb']} GB"
    return f"{row['notebook']:<40} {cost}  {state}"


def main(arguments: list[str]) -> int:
    """Measure, print and save. Always returns 0: a slow machine is not a wrong program."""
    torch.manual_seed(0)
    report = {"machine": full.machine() | {"torch": torch.__version__}, "ratios": []}
    report["machine"]["threads"] = torch.get_num_threads()
    found = list(speed.ratios())
    print(table(found), flush=True)
    report["ratios"] = [asdict(r) | {"ratio": r.ratio} for r in found]
    report["commands"] = list(seconds.commands())
    for row in report["commands"]:
        print(f"{row['name']:<44} {row['seconds']:6.2f} s of {row['goal']} s")
    report["grading"] = [] if "--quick" in arguments else [*grading.rows()]
    print("\n".join([grading.HEAD, *map(grading.line, report["grading"])]), flush=True)
    report["notebooks"] = []
    for row in [] if "--quick" in arguments else seconds.budgets():
        report["notebooks"].append(row)
        print(budget_line(row), flush=True)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "bench.json").write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
