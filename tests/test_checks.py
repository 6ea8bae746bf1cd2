"""Every question accepts its solution on 200 seeds and rejects every control."""

import ast
import importlib
from functools import cache
from pathlib import Path

import jupytext
import pytest
import torch

from gdm_course.checks.controls import controls
from gdm_course.checks.question import Ask, Question, close, run, to_arrays

CHECKS = Path(__file__).parent.parent / "gdm_course" / "checks"
UNITS = sorted(
    f"{path.parent.name}/{path.stem}"
    for path in CHECKS.glob("*/*.py")
    if path.stem != "__init__"
)


def questions(unit: str) -> dict[str, Question]:
    module = importlib.import_module(f"gdm_course.checks.{unit.replace('/', '.')}")
    return {name: q for name, q in vars(module).items() if isinstance(q, Question)}


CASES = [(unit, name) for unit in UNITS for name in questions(unit)]


@cache
def solution(unit: str) -> dict:
    """What the solution defines: its imports, functions and classes; nothing is run."""
    family, name = unit.split("/")
    script = CHECKS.parent.parent / "solutions" / family / "src" / f"{name}.py"
    notebook = jupytext.read(script, fmt="py:percent")
    kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
    space: dict = {"__name__": "solution"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            body = [node for node in ast.parse(cell.source).body if isinstance(node, kinds)]
            exec(compile(ast.Module(body, []), str(script), "exec"), space)
    return space


def test_there_are_questions():
    assert len(CASES) >= 10


@pytest.mark.parametrize(("unit", "name"), CASES)
def test_solution_passes_on_200_seeds(unit, name):
    question, student = questions(unit)[name], solution(unit)[name]
    wrong = {
        s: v.message for s in range(200) if not (v := question.grade(student, s)).right
    }
    assert not wrong


@pytest.mark.parametrize(("unit", "name"), CASES)
def test_controls_and_mistakes_fail_on_every_seed(unit, name):
    question = questions(unit)[name]
    assert question.name == name
    assert len(question.mistakes) >= 2, "a question ships with plausible wrong answers"
    wrong = {**controls(question), **{m.hint: m.answer for m in question.mistakes}}
    for seed in range(20):
        passed = [
            what for what, student in wrong.items() if question.grade(student, seed).right
        ]
        assert not passed, f"seed {seed}"


@pytest.mark.parametrize(("unit", "name"), CASES)
def test_a_mistake_gets_its_own_hint(unit, name):
    """A deterministic mistake is recognised; a stub is told that nothing was answered."""
    question = questions(unit)[name]
    assert question.grade(controls(question)["stub"]).message == "not answered yet"
    for mistake in question.mistakes:
        message = question.grade(mistake.answer).message
        assert message == mistake.hint, f"the mistake gets another one's hint: {message}"


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
    square = Ask(args=(torch.tensor([1.0, 2.0]),), jacobian=True)
    assert torch.equal(run(square, lambda x: x**2)[0], torch.diag(torch.tensor([2.0, 4.0])))


def test_answers_of_many_kinds_become_tensors():
    assert [a.shape for a in to_arrays([1.0, torch.ones(2), True])] == [(), (2,), ()]
