"""Every question accepts right answers in any style and rejects every control.

For each there are three right answers in other styles, and controls for what its text
demands, in `tests/right_answers/<family>/<unit>.py`.
"""

import ast
import importlib
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import jupytext
import pytest
import torch

from gdm_course.checks.controls import careless, controls
from gdm_course.checks.question import Ask, Question, close, run, to_arrays, wrong_with
from gdm_course.grading.judge.judge import asks_of
from tests.turns import now

CHECKS = Path(__file__).parent.parent / "gdm_course" / "checks"
UNITS = sorted(
    f"{path.parent.name}/{path.stem}"
    for path in CHECKS.glob("*/*.py")
    if path.stem != "__init__"
)
STYLES = ("loop", "torch", "numpy")
# How many seeds for the solution, for other right answers, for wrong ones. The first seed
# is the notebook's. A unit has all seeds when it is its turn, and in a full run.
FEW, ALL = (20, 8, 4), (200, 30, 11)


def questions(unit: str) -> dict[str, Question]:
    module = importlib.import_module(f"gdm_course.checks.{unit.replace('/', '.')}")
    return {name: q for name, q in vars(module).items() if isinstance(q, Question)}


# What is trained and scored has no reference to compare with: see test_capstone.py.
CASES = [
    (unit, name)
    for unit in UNITS
    for name, question in questions(unit).items()
    if question.kind != "trained"
]


def by_seeds() -> list:
    """Every question, on all seeds or on a few; the rest waits for a full run."""
    found, chosen = [], now(UNITS, one_of=3)
    for unit, name in CASES:
        turn = unit in chosen
        marks = [] if turn else [pytest.mark.full]
        found.append(pytest.param(unit, name, ALL, id=f"{unit}-{name}-all", marks=marks))
        if not turn:
            found.append(pytest.param(unit, name, FEW, id=f"{unit}-{name}"))
    return found


SEEDED = pytest.mark.parametrize(("unit", "name", "seeds"), by_seeds())


def script(unit: str) -> Path:
    family, name = unit.split("/")
    return CHECKS.parent.parent / "solutions" / family / "src" / f"{name}.py"


def others(unit: str) -> ModuleType:
    """Right answers in other styles, and `DEMANDS`."""
    return importlib.import_module(f"tests.right_answers.{unit.replace('/', '.')}")


@cache
def solution(unit: str) -> dict:
    """What the solution defines: its imports, functions and classes; nothing is run."""
    notebook = jupytext.read(script(unit), fmt="py:percent")
    kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
    space: dict = {"__name__": "solution"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            body = [node for node in ast.parse(cell.source).body if isinstance(node, kinds)]
            exec(compile(ast.Module(body, []), str(script(unit)), "exec"), space)
    return space


def section(unit: str, name: str) -> str:
    """The text of a question's section up to its check, as one line."""
    text = script(unit).read_text(encoding="utf-8")
    before = text[: text.index(f"check.{name}({name})")].rpartition("\n# ## ")[2]
    prose = re.sub(r"### BEGIN SOLUTION.*?### END SOLUTION", "", before, flags=re.DOTALL)
    return " ".join(re.sub(r"(?m)^# ?", "", prose).split())


def demanded(unit: str, name: str) -> dict[str, Any]:
    """What breaks each demand of a question's text."""
    mistakes = {m.hint: m.answer for m in questions(unit)[name].mistakes}
    found = {}
    for words, breaker in others(unit).DEMANDS[name].items():
        if isinstance(breaker, str):
            (breaker,) = (a for hint, a in mistakes.items() if hint.startswith(breaker))
        found[words] = breaker
    return found


def wrong(question: Question, asks: list[Ask], student: Any) -> str | None:
    """What the judge says of a student's object."""
    try:
        return wrong_with(question, asks, [run(ask, student) for ask in asks])
    except Exception as error:
        return repr(error)


def failures(question: Question, students: dict, seeds: Iterable[int]) -> set[tuple]:
    """Seed, name and complaint of everybody whose answer is not right; hints left out.

    Seed 0 is the notebook's; under the others the asks are the grader's.
    """
    question, found = replace(question, mistakes=()), set()
    for seed in seeds:
        asks = asks_of(question, seed) if seed else question.asks(seed)
        for who, student in students.items():
            if said := wrong(question, asks, student):
                found.add((seed, who, said))
    return found


def test_there_are_questions():
    assert len(CASES) >= 10


@SEEDED
def test_solution_passes_on_200_seeds(unit, name, seeds):
    found = {"solution": solution(unit)[name]}
    assert not failures(questions(unit)[name], found, range(seeds[0]))


@SEEDED
def test_right_answers_in_other_styles_pass(unit, name, seeds):
    """Loop, idiomatic torch, numpy or lists: what is right is right in any style."""
    styles = {style: getattr(others(unit), f"{name}_{style}") for style in STYLES}
    assert not failures(questions(unit)[name], styles, range(seeds[1]))


@SEEDED
def test_controls_and_mistakes_fail_on_every_seed(unit, name, seeds):
    """The notebook's one public seed and others give the same verdict."""
    question = questions(unit)[name]
    assert question.name == name
    assert len(question.mistakes) >= 2, "a question ships with plausible wrong answers"
    students = {**controls(question), **careless(question), **demanded(unit, name)}
    students |= {m.hint: m.answer for m in question.mistakes}
    asked = range(seeds[2])
    failed = {(seed, who) for seed, who, _ in failures(question, students, asked)}
    assert {(seed, who) for seed in asked for who in students} - failed == set()


@pytest.mark.parametrize(("unit", "name"), CASES)
def test_what_the_text_demands_is_tested(unit, name):
    """Each demand is a quotation: whoever changes the text looks at its control again."""
    text, demands = section(unit, name), demanded(unit, name)
    assert demands
    assert [words for words in demands if words not in text] == []


@pytest.mark.parametrize(("unit", "name"), CASES)
def test_sizes_and_numbers_vary(unit, name):
    """Else an answer that fits one batch size, window or order passes."""
    fixed = getattr(others(unit), "FIXED", {}).get(name, ())
    asks = questions(unit)[name].asks(0)
    seen: dict[tuple, set] = {}
    for ask in asks:
        for i, value in enumerate(ask.args):
            sizes = value.shape if isinstance(value, torch.Tensor) else [value]
            for axis, size in enumerate(sizes):
                seen.setdefault((ask.method, i, axis), set()).add(str(size))
    same = {(i, axis) for (_, i, axis), sizes in seen.items() if len(sizes) == 1}
    assert same == {*fixed}


@pytest.mark.parametrize(("unit", "name"), CASES)
def test_a_mistake_gets_its_own_hint(unit, name):
    """A deterministic mistake is recognised; a stub is told that nothing was answered."""
    question = questions(unit)[name]
    assert question.grade(controls(question)["stub"]).message == "not answered yet"
    for seed in (0, 1):
        for mistake in question.mistakes:
            message = question.grade(mistake.answer, seed).message
            assert message == mistake.hint, f"the mistake gets another's hint: {message}"


DOUBLE = close("double", lambda x: 2 * x, lambda g: (torch.randn(3, generator=g),))


def test_a_wrong_answer_is_red_and_raises_only_on_request(capsys, monkeypatch):
    monkeypatch.delenv("GDM_CHECK", raising=False)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    DOUBLE(lambda x: x + x)
    DOUBLE(lambda x: x)
    green, red = capsys.readouterr().out.splitlines()
    assert green.startswith("\x1b[32m✔ double")
    assert red.startswith("\x1b[31m✘ double")
    monkeypatch.setenv("GDM_CHECK", "1")
    with pytest.raises(AssertionError, match="wrong values"):
        DOUBLE(lambda x: x)


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (lambda x: 2 * x[:2], "has shape (2,), expected (3,)"),
        (lambda x: (2 * x, x), "returns 2 values, expected 1"),
        (lambda x: 2 * x * torch.nan, "is not finite"),
        (lambda x: 1 / 0, "it raises ZeroDivisionError"),
        (lambda x: "no", "no tensor, no array, no number"),
        (lambda x: None, "it returns None: is a return missing?"),
    ],
)
def test_the_message_names_what_is_wrong(student, message):
    assert message in DOUBLE.grade(student).message


def test_changing_the_inputs_in_place_does_not_help():
    """The judge compares on its own copy of the inputs."""

    def zero_in_place(x):
        return x.zero_()

    assert not DOUBLE.grade(zero_in_place).right


def test_an_ask_seeds_the_call_and_can_differentiate_it():
    noisy = Ask(args=(torch.zeros(2),), seed=3)
    assert torch.equal(*(run(noisy, lambda x: x + torch.randn(2))[0] for _ in range(2)))
    (seen,) = run(noisy, lambda x: torch.randn(2))
    assert torch.equal(seen, torch.randn(2, generator=torch.Generator().manual_seed(3)))
    square = Ask(args=(torch.tensor([1.0, 2.0]),), jacobian=True)
    assert torch.equal(run(square, lambda x: x**2)[0], torch.diag(torch.tensor([2.0, 4.0])))


def test_an_ask_seeds_a_device_as_well(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: "cuda")
    monkeypatch.setattr(torch, "manual_seed", seeds.append)
    run(Ask(seed=7), lambda: torch.zeros(()))
    assert seeds == [7]


def test_answers_of_many_kinds_become_tensors():
    assert [a.shape for a in to_arrays([1.0, torch.ones(2), True])] == [(), (2,), ()]
