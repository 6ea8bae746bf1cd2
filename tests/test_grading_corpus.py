"""Every case of the corpus, on every rung of this machine, with the verdict it must get."""

import os
from functools import cache

import pytest
import torch
from waiting import until

from gdm_course.authoring.course import load
from gdm_course.checks.question import Ask, Question, close
from gdm_course.grading.box import watch
from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.judge.assignment import Assignment, assignments, match
from gdm_course.grading.judge.boxes import Boxes
from gdm_course.grading.judge.judge import grade
from gdm_course.grading.judge.notebook import read
from gdm_course.grading.judge.session import Budget
from gdm_course.grading.judge.verdict import Result
from gdm_course.grading.probes.live import Host
from gdm_course.source import ROOT
from tests.grading_cases import UNIT, Case, cases, notebook

CASES = cases()
RUNGS = {rung.name: rung for rung in LADDER if rung.name in ("L3", "L3u", "L2")}
# On a rung that is not the best one of this machine these stand for the rest.
EVERYWHERE = ("host/", "honest/as_is", "forging/find_sources", "forging/import_reference")
EVERYWHERE += ("resources/daemon", "resources/fork_bomb", "resources/memory_bomb")
SLOW = "resources/fork_bomb_shell"  # forty seconds


@cache
def maps() -> dict[str, Assignment]:
    return assignments(load(ROOT))


MADE: dict[tuple[str, str], Boxes] = {}


def boxes(rung: str, unit: str) -> Boxes:
    unit = unit if unit in maps() else UNIT
    if (rung, unit) not in MADE:
        MADE[rung, unit] = Boxes(RUNGS[rung], maps()[unit])
    return MADE[rung, unit]


@pytest.fixture(scope="module", autouse=True)
def no_box_left():
    yield
    while MADE:
        MADE.popitem()[1].close()


def everywhere(case: Case) -> bool:
    return case.name.startswith(EVERYWHERE) and case.name != SLOW


def parameters() -> list:
    found = []
    for rung in RUNGS:
        for case in CASES:
            marks = [] if rung != "L2" or everywhere(case) else [pytest.mark.full]
            found.append(pytest.param(case, rung, id=f"{rung}-{case.name}", marks=marks))
    return found


def budget(case: Case) -> Budget:
    return Budget(**{"total": 200.0, **case.budget})


def asked_to_hold(host: Host) -> Assignment:
    """An assignment of one question: whatever `attempt` gets hold of must be nothing."""

    def judge(asks, answers) -> str | None:
        got = answers[0][0]
        return None if got.numel() and (got == 0).all() else f"got hold of {got.tolist()}"

    def asks(seed: int) -> list[Ask]:
        return [Ask(args=(str(host.secret), host.port))]

    made = Assignment("probe", {"attempt": 1.0}, maps()[UNIT].known)
    question = Question("attempt", torch.zeros(1), asks, judge)
    computed = {"fingerprint": "", "seconds": {"attempt": 0.0}}
    made.__dict__.update(computed, questions={"attempt": question})
    return made


def hidden_pre_image() -> Assignment:
    """An assignment whose second question asks for what its input was made from.

    The first one shows what it draws. Without the mathematics, `undo` needs its draws.
    """

    def drawn(g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(6, 5, generator=g), 1 + torch.rand(6, 1, generator=g)

    def moved(g: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        z, w = drawn(g)
        return z.sinh() * w, w

    questions = {
        "show": close("show", lambda z, w: z * w, drawn),
        "undo": close("undo", lambda x, w: (x / w).asinh(), moved),
    }
    made = Assignment("hidden", {"show": 1.0, "undo": 2.0}, maps()[UNIT].known)
    computed = {"fingerprint": "", "seconds": {"show": 0.0, "undo": 0.0}}
    made.__dict__.update(computed, questions=questions)
    return made


def verdict(case: Case, rung: str, host: Host) -> Result:
    found = read(notebook(case))
    chosen = asked_to_hold(host) if case.expect == "HELD" else match(found, maps())
    chosen = hidden_pre_image() if case.unit == "hidden" else chosen
    assert chosen is not None
    assert chosen.key in (case.unit, "probe")
    return grade(found, "0" * 64, chosen, boxes(rung, case.unit).make, budget(case))


@pytest.mark.parametrize(("case", "rung"), parameters())
def test_case(case: Case, rung: str):
    if reason := RUNGS[rung].missing():
        pytest.skip(f"{rung} is not on this machine: {reason}")
    if rung not in case.rungs:
        pytest.skip(f"{rung} does not promise this")
    if case.machine and case.machine != os.uname().machine:
        pytest.skip(f"system calls by the numbers of {case.machine}")
    with Host() as host:
        result = verdict(case, rung, host)
        assert host.intact()
    assert result.rung == rung
    earned = {mark.name: mark.earned for mark in result.marks}
    points = {mark.name: mark.points for mark in result.marks}
    story = [(m.name, m.status.value, m.message) for m in result.marks]
    if case.expect in ("FULL", "HELD"):
        assert earned == points, story
    elif case.expect == "ZERO":
        assert not any(earned.values()), story
    elif case.expect == "BOUND":
        assert earned == points or not any(earned.values()), story
    elif case.expect.startswith("Q0"):
        name = case.expect.split()[1]
        assert earned == {**points, name: 0.0}, story
    elif case.expect.startswith("SOME"):
        some = {*case.expect.split()[1:]}
        assert {name for name, got in earned.items() if got} == some, story
    if case.status:
        lost = [m.status for m in result.marks if not m.earned]
        assert lost
        assert {*lost} == {case.status}, story
    if case.says:
        lost = [m.message for m in result.marks if not m.earned]
        told = lost or [result.message]  # all may be earned, each answer by itself
        assert all(case.says in message for message in told), story
    nothing_is_left(boxes(rung, case.unit))


def nothing_is_left(used: Boxes) -> None:
    """No process of the box is alive once its submission is graded."""
    nursery = used.nursery
    if nursery is None:
        return
    assert until(lambda: watch.family(nursery.root)[1:] == [])
