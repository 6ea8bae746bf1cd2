"""The corpus: reads the cases under tests/grading_corpus and makes notebooks of them.

A case is a script. Its first lines, `#: key = value` in TOML, say what it is and what must
come of it; its cells start with `# %%` (before the answers), `# %% after`, or
`# %% instead NAME`.
"""

import json
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from gdm_course.source import ROOT

CORPUS = ROOT / "tests" / "grading_corpus"
UNIT = "foundations/densities"


@dataclass(frozen=True)
class Case:
    name: str
    why: str
    expect: str  # FULL, ZERO, Q0: NAME, SOME: NAME NAME, BOUND (one of them), HELD, HOST
    base: str  # solved, empty, nothing
    unit: str = UNIT  # "hidden": made up for the corpus, see test_grading_corpus.py
    status: str = ""  # of each mark that is lost
    says: str = ""  # in the message of each mark that is lost
    edit: str = ""
    machine: str = ""
    rungs: tuple[str, ...] = ("L3", "L3u", "L2")
    budget: dict = field(default_factory=dict)
    cells: tuple[tuple[str, str], ...] = ()


def cases() -> list[Case]:
    return [_case(path) for path in sorted(CORPUS.rglob("*.py"))]


def _case(path: Path) -> Case:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    head = "".join(line[3:] for line in lines if line.startswith("#: "))
    about = tomllib.loads(head)
    about["rungs"] = tuple(about.get("rungs", Case.rungs))
    cells: list[list[str]] = []
    for line in lines:
        if line.startswith("# %%"):
            cells.append([line[4:].strip(), ""])
        elif cells and not line.startswith("#: "):
            cells[-1][1] += line
    name = path.relative_to(CORPUS).with_suffix("").as_posix()
    return Case(name, cells=tuple((w, s.strip()) for w, s in cells), **about)


@cache
def _stored(kind: str, unit: str) -> str:
    return (ROOT / kind / f"{unit}.ipynb").read_text(encoding="utf-8")


def notebook(case: Case) -> bytes:
    """The submission of a case: the exercise or the solution, with its cells put in."""
    kind = "solutions" if case.base == "solved" else "exercises"
    whole = json.loads(_stored(kind, UNIT if case.unit == "hidden" else case.unit))
    instead = {w.split()[1]: s for w, s in case.cells if w.startswith("instead")}
    kept = [] if case.base == "nothing" else whole["cells"]
    for cell in kept:
        if (name := _identity(cell)) in instead:
            cell["source"] = instead.pop(name)
    assert not instead, f"{case.name}: no answer cell of these names"
    first = [_code(source) for where, source in case.cells if where == ""]
    last = [_code(source) for where, source in case.cells if where == "after"]
    # an exercise says first what it is; title, navigation, setup, imports
    setup = (5 if kind == "exercises" else 4) if kept else 0
    whole["cells"] = [*kept[:setup], *first, *kept[setup:], *last]
    if case.edit:
        EDITS[case.edit](whole)
    text = json.dumps(whole)
    return (text.replace("\\n", "\\r\\n") if case.edit == "crlf" else text).encode()


def _code(source: str) -> dict:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": []}


def _identity(cell: dict) -> str:
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")


def _answers(whole: dict) -> list[dict]:
    return [c for c in whole["cells"] if c["metadata"].get("nbgrader", {}).get("solution")]


def _stripped(whole: dict) -> None:
    whole["metadata"] = {}
    for cell in whole["cells"]:
        cell["metadata"] = {}
        cell.pop("id", None)


def _reordered(whole: dict) -> None:
    answers = _answers(whole)
    rest = [c for c in whole["cells"] if c not in answers]
    whole["cells"] = [*rest[:5], *reversed(answers), *rest[5:]]


def _doubled(whole: dict) -> None:
    for cell in _answers(whole):
        wrong = json.loads(json.dumps(cell))
        wrong["metadata"]["nbgrader"]["grade_id"] = "mmd2_unbiased"
        wrong["source"] = f"def {_identity(cell)}(*args):\n    return 0"
        whole["cells"].insert(whole["cells"].index(cell), wrong)


def _no_checks(whole: dict) -> None:
    whole["cells"] = [c for c in whole["cells"] if not _identity(c).startswith("check-")]


def _colab(whole: dict) -> None:
    whole["metadata"] |= {"colab": {"provenance": []}, "accelerator": "GPU"}
    whole["metadata"]["kernelspec"] = {"name": "ir", "display_name": "R"}
    for cell in whole["cells"]:
        cell["metadata"] |= {"id": "x", "outputId": "y", "colab": {"base_uri": "z"}}
        cell["source"] = "".join(cell["source"])


def _outputs(whole: dict) -> None:
    html = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    data = {
        "text/html": html,
        "image/svg+xml": "<svg onload='x'/>",
        "image/png": "A" * 10**6,
    }
    out = {"output_type": "display_data", "metadata": {}, "data": data}
    error = {
        "output_type": "error",
        "ename": html,
        "evalue": html,
        "traceback": ["\x1b[31m"],
    }
    for cell in _answers(whole):
        cell["outputs"] = [out, error, {"output_type": "stream", "text": html}]


def _odd_characters(whole: dict) -> None:
    for cell in _answers(whole):
        cell["source"] = ["# \x00 \ud800 \u202e \u2066 \x1b[31m\n", *cell["source"]]


def _claims_points(whole: dict) -> None:
    whole["metadata"]["points"] = 10**6
    for cell in whole["cells"]:
        cell["metadata"].get("nbgrader", {}).update(points=1000)


def _long_line(whole: dict) -> None:
    whole["cells"].append(_code("# " + "x" * 5_000_000))


def _deleted(whole: dict) -> None:
    whole["cells"] = [c for c in whole["cells"] if _identity(c) != "kl_gaussian"]


def _tagged(whole: dict) -> None:
    for cell in _answers(whole) + whole["cells"][-1:]:
        cell["metadata"]["tags"] = ["train"]


def _windows(whole: dict) -> None:
    for cell in _answers(whole):
        text = "".join(cell["source"]).replace("\n", "\r\n")
        cell["source"] = f"\ufeff{text}"


def _wrong_claim(whole: dict) -> None:
    whole["metadata"]["gdm"]["source"] = "solutions/../src/../../etc/passwd"


EDITS = {
    "crlf": lambda whole: None,
    "stripped": _stripped,
    "reordered": _reordered,
    "doubled": _doubled,
    "no_checks": _no_checks,
    "colab": _colab,
    "outputs": _outputs,
    "odd_characters": _odd_characters,
    "claims_points": _claims_points,
    "long_line": _long_line,
    "deleted": _deleted,
    "wrong_claim": _wrong_claim,
    "tagged": _tagged,
    "windows": _windows,
}
