"""The rubric of a unit: what each question tests, and which mistakes it knows."""

import ast
import inspect
import textwrap
from typing import Any

from torch import Tensor

from gdm_course.authoring.course import Unit
from gdm_course.checks.ask import Ask, Make
from gdm_course.checks.question import Question
from gdm_course.grading.judge.assignment import Assignment

SEED = 0
KINDS = {
    "close": "number, shape and values of the results, finite where the reference is, "
    "against the course's own answer in float64",
    "exact": "exactly the course's own result",
    "statistical": "the law of what it draws, with a margin that an honest answer passes",
    "property": "properties that a right answer has, whatever way it is written",
    "trained": "the score of its weights on held-out data, by the judge's own model",
}


def of(unit: Unit, assignment: Assignment) -> tuple[str, dict]:
    """The rubric of a unit as Markdown and as data."""
    title = unit.heading[0]
    questions = [
        _question(question, assignment.points[name])
        for name, question in assignment.questions.items()
    ]
    data = {
        "unit": unit.key,
        "title": title,
        "points": sum(assignment.points.values()),
        "fingerprint": assignment.fingerprint,
        "questions": questions,
    }
    return _markdown(data), data


def _question(question: Question, points: float) -> dict[str, Any]:
    asks = question.asks(SEED)
    return {
        "name": question.name,
        "points": points,
        "kind": question.kind,
        "tested": KINDS[question.kind],
        "asked": list(dict.fromkeys(_said(ask, question.name) for ask in asks)),
        "calls": len(asks),
        "complaints": _complaints(question),
        "mistakes": [m.hint for m in question.mistakes],
    }


def _said(ask: Ask, name: str) -> str:
    """One call in words: `kl_gaussian(tensor (6, 4), ...)`."""
    given = [*map(_shown, ask.args)]
    given += [f"{key}={_shown(value)}" for key, value in ask.kwargs.items()]
    call = f"{name}({', '.join(given)})"
    if ask.init is not None:
        built = f"{name}({', '.join(map(_shown, ask.init))})"
        method = "" if ask.method == "__call__" else f".{ask.method}"
        call = f"{built}{method}({', '.join(given)})"
        call += " with weights loaded" if ask.state is not None else ""
    return f"the Jacobian of {call}" if ask.jacobian else call


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"tensor {tuple(value.shape)}"
    if isinstance(value, Make):
        return value.path.removeprefix("gdm_course.")
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_shown, value))})"
    return repr(value)


def _complaints(question: Question) -> list[str]:
    """The sentences with which the judgement of a question can say what is wrong."""
    if question.judge.__module__ == "gdm_course.checks.question":  # the common one
        return []
    tree = ast.parse(textwrap.dedent(inspect.getsource(question.judge)))
    returned = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return) and n.value]
    found = [sentence for value in returned for sentence in _sentences(value)]
    return list(dict.fromkeys(found))


def _sentences(value: ast.expr) -> list[str]:
    if isinstance(value, ast.JoinedStr):
        parts = [p.value if isinstance(p, ast.Constant) else "..." for p in value.values]
        return ["".join(map(str, parts))]
    if isinstance(value, ast.Constant):
        return [value.value] if isinstance(value.value, str) else []
    if isinstance(value, ast.IfExp):
        return _sentences(value.body) + _sentences(value.orelse)
    return []


def _markdown(data: dict) -> str:
    lines = [f"# Rubric: {data['title']}", ""]
    lines += [f"`{data['unit']}`, {data['points']:g} points, fingerprint "]
    lines[-1] += f"`{data['fingerprint']}`. A question earns all of its points or none."
    for question in data["questions"]:
        points = question["points"]
        unit = "point" if points == 1 else "points"
        lines += [
            "",
            f"## `{question['name']}`: {points:g} {unit} ({question['kind']})",
            "",
        ]
        lines += [f"Tested: {question['tested']}.", ""]
        lines += [f"Asked, {question['calls']} calls on fresh inputs, such as:", ""]
        lines += [f"- `{call}`" for call in question["asked"]]
        if question["complaints"]:
            lines += ["", "What it can say is wrong:", ""]
            lines += [f"- {sentence}" for sentence in question["complaints"]]
        if question["mistakes"]:
            lines += ["", "Mistakes it knows, with the hint a student gets:", ""]
            lines += [f"- {hint}" for hint in question["mistakes"]]
    return "\n".join([*lines, ""])
