"""The judge and its files, with a box that is a puppet; and whole units in real ones."""

import json
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from gdm_course.authoring.course import load
from gdm_course.checks.question import Question
from gdm_course.grading.box.box import Died, TooLate
from gdm_course.grading.box.clock import Deadline
from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.box.line import MAX_OUTPUT, Line
from gdm_course.grading.guest.packing import unpack_ask
from gdm_course.grading.guest.wire import Malformed
from gdm_course.grading.judge import judge
from gdm_course.grading.judge.assignment import Assignment, assignments, match
from gdm_course.grading.judge.boxes import Boxes
from gdm_course.grading.judge.judge import RIGHT, grade
from gdm_course.grading.judge.notebook import Cell, Notebook, read
from gdm_course.grading.judge.session import Budget
from gdm_course.grading.judge.verdict import Mark, Result, Status, restore, store
from gdm_course.grading.marks import batch, collect
from gdm_course.grading.marks.collect import Entry
from gdm_course.source import ROOT

MAPS = assignments(load(ROOT))
BEST = next((r for r in LADDER if r.name in ("L3", "L3u") and r.missing() is None), None)
EMPTY = Notebook(())


def course(**questions: Question) -> Assignment:
    made = Assignment("x/y", {name: 2.0 for name in questions}, frozenset())
    made.__dict__.update(
        questions=questions, fingerprint="f", seconds={name: 0.0 for name in questions}
    )
    return made


def doubling(name: str) -> Question:
    from gdm_course.checks.question import close

    return close(name, lambda x: 2 * x, lambda g: (torch.randn(3, generator=g),), n=2)


class Puppet:
    """A box whose guest does what a script says: a function, or an error, per question."""

    rung, peak, cpu = "L3", 7 << 20, 0.0
    made: ClassVar[list] = []

    def __init__(self, does: dict, fails: list | None = None):
        self.does, self.fails, self.closed = does, fails or [], False
        Puppet.made.append(self)

    def ready(self, seconds: float) -> None:
        if self.fails:
            raise self.fails.pop()

    def request(self, message: dict, arrays: list, seconds: float):
        if message["do"] == "load":
            self.alone = message["alone"]
            if isinstance(error := self.does.get(f"load {self.alone}".strip()), Exception):
                raise error
            found = self.does.get("found", [*self.does])
            return {"ok": True, "found": found, "disturbed": self.does.get("later")}, []
        alone = self.does.get(f"{message['name']} alone") if self.alone else None
        action = alone or self.does[message["name"]]
        if isinstance(action, Exception):
            raise action
        if isinstance(action, str):
            return {"ok": False, "error": action}, []
        return {"ok": True}, [action(*unpack_ask(message["ask"], arrays).args)]

    def close(self) -> None:
        self.closed = True


def judged(does: dict, fails: list | None = None, **more) -> Result:
    Puppet.made = []
    made = course(a=doubling("a"), b=doubling("b"))
    return grade(EMPTY, "k", made, lambda: Puppet(does, fails), **more)


def right(x):
    return 2 * x


def test_right_and_wrong_answers():
    result = judged({"a": right, "b": lambda x: x})
    assert (result.earned, result.points) == (2, 4)
    assert [m.status for m in result.marks] == [Status.GRADED] * 2
    assert result.marks[1].message == "the result has the right shape but wrong values"
    assert (result.boxes, result.memory_mib, result.rung) == (1, 7, "L3")
    assert all(p.closed for p in Puppet.made)


@pytest.mark.parametrize(
    ("error", "status"),
    [(Died(""), "crash"), (TooLate(""), "timeout"), (Malformed(""), "malformed")],
)
def test_a_broken_box_costs_one_question(error, status):
    result = judged({"a": error, "b": right})
    assert [(m.status, m.earned) for m in result.marks] == [(status, 0), ("graded", 2)]
    assert (result.status, result.boxes) == ("graded", 2 + (status == "crash"))
    assert all(p.closed for p in Puppet.made)


@pytest.mark.parametrize(
    ("error", "status"),
    [(Died(""), "crash"), (TooLate(""), "timeout"), (Malformed(""), "malformed")],
)
def test_cells_that_break_a_box_cost_only_the_answers_that_need_them(error, status):
    """Once all cells together broke a box, each answer gets one, and what it needs."""
    result = judged({"load": error, "a": right, "b": right})
    assert [(m.status, m.earned) for m in result.marks] == [("graded", 2)] * 2
    assert (result.status, result.boxes) == ("graded", 3)
    assert "while the cells ran: each answer was judged by itself" in result.message
    result = judged({"load": error, "load a": error, "a": right, "b": right})
    assert [(m.status, m.earned) for m in result.marks] == [(status, 0), ("graded", 2)]
    assert "while the cells ran" in result.marks[0].message
    broken = {"load": error, "load a": error, "load b": error}
    result = judged({**broken, "a": right, "b": right})
    assert [m.status for m in result.marks] == [status, status]
    assert (result.status, result.earned, result.boxes) == (status, 0, 3)
    assert all(p.closed for p in Puppet.made)


def test_what_cells_below_made_wrong_is_asked_again_by_itself():
    """Only if there are such cells; and a second try never takes a mark away."""
    wrong = lambda x: x  # noqa: E731
    spoilt = {"a": wrong, "a alone": right, "b": right, "b alone": wrong}
    assert [m.right for m in judged(spoilt).marks] == [False, True]
    result = judged({**spoilt, "later": ["a", "b"]})
    assert [m.right for m in result.marks] == [True, True]
    assert (result.status, result.boxes) == ("graded", 2)
    raises = {**spoilt, "a": "NameError", "later": ["a"]}
    assert [m.right for m in judged(raises).marks] == [True, True]
    dead = judged({**spoilt, "a": TooLate(""), "later": ["a"]})
    assert [m.status for m in dead.marks] == ["timeout", "graded"]


def test_a_box_that_ended_during_an_ask_is_tried_without_the_other_cells():
    """A thread or an alarm that some cell left behind takes no mark away."""
    result = judged({"a": Died(""), "a alone": right, "b": right})
    assert [(m.status, m.earned) for m in result.marks] == [("graded", 2)] * 2
    assert (result.status, result.boxes) == ("graded", 3)
    assert all(p.closed for p in Puppet.made)


def test_a_mark_says_what_the_judgement_was_whatever_it_is_worth(tmp_path):
    """Also in verdicts of before there was such a word."""
    assert [m.right for m in judged({"a": right, "b": lambda x: x}).marks] == [True, False]
    free = [Mark("p", 0, 0.0, Status.GRADED, m) for m in (RIGHT, "wrong values")]
    assert [collect.kind(mark) for mark in free] == ["right", "wrong"]
    assert collect.kind(Mark("p", 0, 0.0, Status.MISSING, RIGHT)) == "missing"
    assert [Mark("p", 2, n, Status.GRADED, "").right for n in (2.0, 0.0)] == [True, False]
    stored = Result("k", "u", "f", Status.GRADED, "", marks=tuple(free))
    path = store(stored, tmp_path)
    assert restore(path) == stored
    data = json.loads(path.read_text())
    for mark in data["marks"]:
        del mark["right"]
    path.write_text(json.dumps(data))
    assert restore(path) == stored
    data["marks"][0]["right"] = "yes"
    path.write_text(json.dumps(data))
    assert restore(path) is None


def test_prints_are_thrown_away_and_only_a_flood_ends_the_process():
    streams = [os.pipe() for _ in range(3)]
    (_, to), (coming, _), (errors, prints) = streams
    line = Line((to, coming, errors), lambda: None)

    def say(much: int) -> None:
        for _ in range(much >> 16):
            os.write(prints, b"x" * (1 << 16))  # as much as a pipe holds
            line.wait(Deadline(60, lambda: 0.0))

    say(24 << 20)
    assert len(line.tail) < 1 << 16, "its end is kept, no more"
    with pytest.raises(Died, match="MiB of output"):
        say(MAX_OUTPUT)
    line.close()
    for end in (streams[0][0], streams[1][1], prints):
        os.close(end)


def test_a_box_that_does_not_start_is_tried_twice():
    """Nothing of the student's has run yet: it is not the student's fault."""
    assert judged({"a": right, "b": right}, [Died("")]).earned == 4
    result = judged({"a": right, "b": right}, [Died(""), Died("")])
    assert (result.status, result.marks) == ("unjudged", ())


def test_a_zero_says_which_zero_it_is():
    assert judged({"a": "NotImplementedError", "b": right}).marks[0].status == "missing"
    assert judged({"a": right, "b": right, "found": ["b"]}).marks[0].status == "missing"
    result = judged({"a": right, "b": right}, budget=Budget(total=0.0))
    assert (result.status, result.earned) == ("timeout", 0)


@pytest.mark.parametrize("name", ["x=0.123", "<b>", "Secret", "print", "7", "__import__"])
def test_what_a_stranger_calls_an_error_is_not_repeated(name):
    assert judged({"a": name, "b": right}).marks[0].message == "it raises an error"
    assert judged({"a": "ZeroDivisionError", "b": right}).marks[0].message == (
        "it raises ZeroDivisionError"
    )


@pytest.mark.parametrize("found", [None, 3, "ab", [1, {}], {"a": 1}, [["a"]]])
def test_a_lie_about_what_was_found_is_not_believed(found):
    assert judged({"a": right, "b": right, "found": found}).earned == 0


def test_an_answer_that_stumbles_a_judgement_is_wrong():
    def stumbles(asks, answers):
        raise IndexError("3")

    made = course(a=Question("a", right, doubling("a").asks, stumbles))
    (mark,) = grade(EMPTY, "k", made, lambda: Puppet({"a": right})).marks
    assert (mark.earned, mark.status) == (0, "graded")
    assert "cannot be judged" in mark.message


def test_asks_are_secret_and_repeatable():
    first, second = (judged({"a": right, "b": right}) for _ in range(2))
    assert first.seed != second.seed
    assert judged({"a": right, "b": right}, seed=5).seed == 5


def test_notebook_and_judge_ask_the_same():
    """One definition, two uses: what passes in the notebook passes here, with its hint."""
    question = MAPS["foundations/densities"].questions["kl_gaussian"]
    for student in (question.reference, *(m.answer for m in question.mistakes)):
        here = question.grade(student, 3)
        made = course(kl_gaussian=question)
        puppet = lambda s=student: Puppet({"kl_gaussian": s})  # noqa: E731
        (mark,) = grade(EMPTY, "k", made, puppet, seed=3).marks
        assert (mark.earned > 0) == here.right
        assert mark.message == here.message or (mark.message == RIGHT and here.right)


# Files ------------------------------------------------------------------------------------


def test_a_verdict_is_stored_and_read_back(tmp_path):
    result = judged({"a": right, "b": "ValueError"})
    path = store(result, tmp_path)
    assert restore(path) == result
    assert json.loads(path.read_text())["earned"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["k.json"]
    path.write_text(path.read_text()[:50])
    assert restore(path) is None


def kept_result() -> Result:
    """A verdict on the file "k": the first question right, the others wrong."""
    made = MAPS["foundations/densities"]
    marks = [Mark(n, p, 0, Status.GRADED, "wrong") for n, p in made.points.items()]
    marks[0] = replace(marks[0], earned=marks[0].points, message=RIGHT)
    about = ("k", made.key, made.fingerprint, Status.GRADED, "")
    return Result(*about, tuple(marks), rung="L3")


FORGED = {
    "of another file": lambda d: d.update(sha256="0" * 64),
    "of no assignment": lambda d: d.update(assignment="", fingerprint=""),
    "of an assignment that is not there": lambda d: d.update(assignment="x/y"),
    "without fingerprint": lambda d: d.update(fingerprint=""),
    "no marks": lambda d: d.update(marks=[]),
    "a question less": lambda d: d["marks"].pop(),
    "a question twice": lambda d: d["marks"].append(d["marks"][0]),
    "a question more": lambda d: d["marks"].append({**d["marks"][0], "name": "x"}),
    "more points": lambda d: d["marks"][1].update(points=100, earned=100),
    "more than its points": lambda d: d["marks"][1].update(earned=2.5),
    "fewer than none": lambda d: d["marks"][1].update(earned=-2),
    "a part of its points": lambda d: d["marks"][1].update(earned=0.5),
    "not a number": lambda d: d["marks"][1].update(earned=float("nan")),
    "points as text": lambda d: d["marks"][1].update(earned="2"),
    "points as yes": lambda d: d["marks"][2].update(earned=True),
    "points for nothing judged": lambda d: d["marks"][0].update(status="missing"),
    "isolated and not": lambda d: d["marks"][0].update(status="unsandboxed"),
    "another status": lambda d: d.update(status="full marks"),
    "another schema": lambda d: d.update(schema=2),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_verdict_that_no_judge_writes_is_not_kept(what, tmp_path):
    path = store(kept_result(), tmp_path)
    assert batch.fresh(path, "L3") is not None
    data = json.loads(path.read_text())
    FORGED[what](data)
    path.write_text(json.dumps(data))
    assert batch.fresh(path, "L3") is None


def test_a_verdict_on_no_notebook_is_kept_as_one(tmp_path):
    bad = judge.rejected("k", "no notebook")
    assert batch.fresh(store(bad, tmp_path), "L3") == bad
    assert batch.fresh(store(replace(bad, status=Status.GRADED), tmp_path), "L3") is None


def test_an_old_mark_never_survives(tmp_path, monkeypatch):
    """Another fingerprint, a rung given up, a regrade: the stored mark is not kept."""
    good = kept_result()
    assert batch.fresh(store(good, tmp_path), "L3") == good
    stale = replace(good, fingerprint="other")
    assert batch.fresh(store(stale, tmp_path), "L3") is None
    marks = tuple(replace(m, status=Status.UNSANDBOXED) for m in good.marks)
    bare = replace(good, status=Status.UNSANDBOXED, rung="L0", marks=marks)
    assert batch.fresh(store(bare, tmp_path), "L3") is None
    assert batch.fresh(store(bare, tmp_path), "L0") == bare
    store(stale, tmp_path)
    found = batch.Found({"k": ["n"]}, {"k": tmp_path / "n"}, {})
    jobs, done = batch.plan(found, tmp_path, "L3", "", resume=True)
    assert ([j.key for j in jobs], done) == (["k"], [])
    assert not (tmp_path / "k.json").exists()


def test_names_of_files_decide_nothing(tmp_path):
    """Duplicates are one submission; odd names are names; links and pipes are refused."""
    text = (ROOT / "exercises" / "foundations" / "densities.ipynb").read_bytes()
    (tmp_path / "in" / ".ipynb_checkpoints").mkdir(parents=True)
    names = [
        "a.ipynb",
        "in/a.ipynb",
        f"{'x' * 240}.ipynb",
        "а.ipynb",
        "..ipynb",
        "a\nb.ipynb",
    ]
    for name in names:
        (tmp_path / name).write_bytes(text)
    (tmp_path / "other.ipynb").write_bytes(text + b" ")
    (tmp_path / "in" / ".ipynb_checkpoints" / "x.ipynb").write_bytes(b"{}")
    (tmp_path / "peer.ipynb").symlink_to(tmp_path / "a.ipynb")
    (tmp_path / "up").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe.ipynb")
    found = batch.find(tmp_path)
    assert sorted(map(len, found.names.values())) == [1, len(names)]
    assert {*found.refused} == {"peer.ipynb", "pipe.ipynb", "up/"}
    assert all(set(key) <= set("0123456789abcdef") for key in found.names)


def test_the_assignment_is_found_without_metadata():
    for key, made in MAPS.items():
        found = read((ROOT / "exercises" / f"{key}.ipynb").read_bytes())
        assert match(found, MAPS) is made
        assert match(Notebook(found.cells, "solutions/no/such.py"), MAPS) is made
    assert match(Notebook((Cell("x = 1"),)), MAPS) is None


# What decides a mark ----------------------------------------------------------------------

DECIDING = [
    "checks/foundations/densities.py",
    "checks/question.py",
    "checks/compare.py",
    "checks/draws.py",
    "checks/ask.py",
    "divergences/samples.py",  # a reference
    "divergences/densities.py",  # what that uses
    "divergences/__init__.py",
    "grading/judge/judge.py",
    "grading/guest/cells.py",
    "grading/guest/guest.py",
    "grading/judge/stage.py",
    "grading/guest/standin.py",
    "grading/box/rungs.py",
]


def fingerprint(root: Path, key: str = "foundations/densities") -> str:
    made = MAPS[key]
    computed = Assignment(key, made.points, made.known, root)
    computed.__dict__.update(made=made.made, withheld=made.withheld)
    return computed.fingerprint


@pytest.fixture(scope="module")
def course_copy(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("course")
    leave = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(ROOT / "gdm_course", root / "gdm_course", ignore=leave)
    return root


@pytest.mark.parametrize("name", DECIDING)
def test_a_repair_of_what_judges_makes_marks_stale(name, course_copy):
    """Case 12: the reference was repaired, and old marks were "kept from before"."""
    path, before = course_copy / "gdm_course" / name, fingerprint(course_copy)
    text = path.read_text(encoding="utf-8")
    try:
        path.write_text(text + "\n\n# a comment\n", encoding="utf-8")
        assert fingerprint(course_copy) == before
        path.write_text(text + "\n\nREPAIRED = True\n", encoding="utf-8")
        assert fingerprint(course_copy) != before
    finally:
        path.write_text(text, encoding="utf-8")
    assert fingerprint(course_copy) == before == MAPS["foundations/densities"].fingerprint


@pytest.mark.parametrize(
    "name", ["vae/vae.py", "grading/marks/pages.py", "checks/vae/vae.py"]
)
def test_what_judges_nothing_here_changes_no_mark(name, course_copy):
    path, before = course_copy / "gdm_course" / name, fingerprint(course_copy)
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "\n\nREPAIRED = True\n", encoding="utf-8")
    assert fingerprint(course_copy) == before
    assert fingerprint(course_copy, "vae/vae") != MAPS["vae/vae"].fingerprint or (
        name == "grading/marks/pages.py"
    )
    path.write_text(text, encoding="utf-8")


def test_what_is_withheld_counts():
    made = MAPS["foundations/densities"]
    other = Assignment(made.key, made.points, made.known)
    other.__dict__.update(made=made.made, withheld=made.withheld | {"gdm_course.nets"})
    assert other.fingerprint != made.fingerprint


def test_what_an_ask_builds_counts(course_copy):
    """`midpoint_step` gets a field of flows.ode: no import of its check file says so."""
    path, key = course_copy / "gdm_course/flows/ode.py", "flows/continuous"
    text, before = path.read_text(encoding="utf-8"), fingerprint(course_copy, key)
    path.write_text(text + "\n\nREPAIRED = True\n", encoding="utf-8")
    assert fingerprint(course_copy, key) != before
    path.write_text(text, encoding="utf-8")


# Whole units, in real boxes ---------------------------------------------------------------


@pytest.mark.skipif(BEST is None, reason="no bubblewrap on this machine")
@pytest.mark.parametrize(
    "key",
    [  # the capstone's solution trains nine times
        pytest.param(key, marks=[pytest.mark.full] * (key == "challenges/capstone"))
        for key in MAPS
    ],
)
def test_a_solution_gets_all_points_and_an_exercise_none(key):
    made = MAPS[key]
    boxes = Boxes(BEST, made)
    try:
        for kind, share, status in (
            ("solutions", 1, "graded"),
            ("exercises", 0, "missing"),
        ):
            found = read((ROOT / kind / f"{key}.ipynb").read_bytes())
            result = grade(found, "k", made, boxes.make, Budget(scale=3))
            story = [(m.name, m.status.value, m.message) for m in result.marks]
            assert result.earned == share * sum(made.points.values()), story
            assert {m.status for m in result.marks} == {status}, story
    finally:
        boxes.close()


@pytest.mark.full
@pytest.mark.skipif(BEST is None, reason="no bubblewrap on this machine")
def test_honest_styles_a_hundred_times_under_load():
    """Every honest case, in random order, beside busy neighbours: always all points."""
    from concurrent.futures import ProcessPoolExecutor

    from tests.grading_cases import cases

    honest = [c for c in cases() if c.expect == "FULL" and c.base == "solved"]
    jobs = [case.name for case in honest] * 100
    random.Random(0).shuffle(jobs)
    with ProcessPoolExecutor(2) as pool:
        lost = [one for one in pool.map(grade_case, jobs, chunksize=20) if one]
    assert lost == []


_boxes: list[Boxes] = []


def grade_case(name: str) -> str:
    """Grade one case of the corpus in a worker; "" if it gets all points."""
    from tests.grading_cases import UNIT, cases, notebook

    if not _boxes:
        _boxes.append(Boxes(BEST, MAPS[UNIT]))
    case = next(c for c in cases() if c.name == name)
    result = grade(read(notebook(case)), "k", MAPS[UNIT], _boxes[0].make, Budget(scale=3))
    return "" if result.earned == result.points else f"{name}: {result}"


# A whole class ----------------------------------------------------------------------------


class Here:
    """Boxes of puppets that answer one question of the unit."""

    def __init__(self, does: dict):
        self.does = does

    def make(self) -> Puppet:
        return Puppet(self.does)


@pytest.fixture
def class_of_six(tmp_path, monkeypatch):
    key = "foundations/densities"
    does = {"kl_gaussian": MAPS[key].questions["kl_gaussian"].reference}
    monkeypatch.setattr(batch, "_boxes", lambda rung, unit: Here(does))
    text = (ROOT / "exercises" / f"{key}.ipynb").read_text(encoding="utf-8")
    for i in range(6):
        (tmp_path / f"{i}.ipynb").write_text(text + "\n" * i)
    (tmp_path / "broken.ipynb").write_text("{")
    (tmp_path / "out").mkdir()
    return tmp_path


def test_an_interrupted_run_is_resumed(class_of_six):
    """Nothing lost, nothing graded twice: the second run does exactly the rest."""
    out = class_of_six / "out"
    found = batch.find(class_of_six)
    jobs, done = batch.plan(found, out, "L3", "", resume=True)
    assert (len(jobs), done) == (7, [])
    first = [batch.grade_one(job) for job in jobs[:3]]
    rest, done = batch.plan(found, out, "L3", "", resume=True)
    assert {r.sha256 for r in done} == {r.sha256 for r in first}
    assert {j.key for j in rest} == {j.key for j in jobs[3:]}
    with ThreadPoolExecutor(2) as executor:
        results = [result for _, result in batch.run(rest, executor)]
    assert batch.plan(found, out, "L3", "", resume=True)[0] == []
    everything = {r.sha256: r for r in [*first, *results]}
    assert {*everything} == {p.stem for p in out.glob("*.json")} == {*found.paths}
    assert sorted(r.earned for r in everything.values()) == [0] + [2] * 6
    again, done = batch.plan(found, out, "L3", "", resume=False)
    assert (len(again), done, [*out.glob("*.json")]) == (7, [], [])


FAILURES = (ZeroDivisionError, MemoryError, RecursionError, OverflowError, RuntimeError)


@pytest.mark.parametrize("error", FAILURES)
def test_a_judge_that_fails_says_so_and_the_batch_goes_on(class_of_six, monkeypatch, error):
    """Never a 0, never nothing: a status, no marks, and the next run grades again."""
    out, judge = class_of_six / "out", batch.judge.grade
    jobs, _ = batch.plan(batch.find(class_of_six), out, "L3", "", resume=True)
    bad = next(job.key for job in jobs if job.path.name == "3.ipynb")

    def fails(notebook, key, *rest):
        if key == bad:
            raise error("<b>secret</b>")
        return judge(notebook, key, *rest)

    monkeypatch.setattr(batch.judge, "grade", fails)
    with ThreadPoolExecutor(1) as executor:
        results = {result.sha256: result for _, result in batch.run(jobs, executor)}
    assert {*results} == {p.stem for p in out.glob("*.json")} == {job.key for job in jobs}
    assert sorted(r.status for r in results.values()) == sorted(
        [*["graded"] * 5, "malformed", "unjudged"]
    )
    entry = Entry("3.ipynb", restore(out / f"{bad}.json"))
    assert (entry.status, entry.earned, entry.marks) == ("unjudged", None, ())
    assert error.__name__ in entry.message
    assert "secret" not in entry.message
    monkeypatch.setattr(batch.judge, "grade", judge)
    again, done = batch.plan(batch.find(class_of_six), out, "L3", "", resume=True)
    assert [job.key for job in again] == [bad]
    assert len(done) == 6


def test_a_file_that_changes_is_not_graded_under_its_old_hash(class_of_six):
    out = class_of_six / "out"
    (job, *_), _ = batch.plan(batch.find(class_of_six), out, "L3", "", resume=True)
    job.path.write_text(job.path.read_text() + " ")
    assert batch.grade_one(job).status == "unjudged"


@pytest.mark.skipif(BEST is None, reason="no bubblewrap on this machine")
def test_the_command_grades_a_folder(tmp_path):
    (tmp_path / "in" / "ann").mkdir(parents=True)
    for kind, name in (("solutions", "ann/a.ipynb"), ("exercises", "b.ipynb")):
        text = (ROOT / kind / "foundations" / "densities.ipynb").read_bytes()
        (tmp_path / "in" / name).write_bytes(text)
    (tmp_path / "in" / "c.ipynb").write_text("nothing")
    command = [sys.executable, "-m", "gdm_course", "grade", str(tmp_path / "in")]
    command += ["--out", str(tmp_path / "out"), "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"isolation: {BEST.name}" in done.stdout
    index = json.loads((tmp_path / "out" / "index.json").read_text())["submissions"]
    stored = {n: restore(tmp_path / "out" / f"{key}.json") for n, key in index.items()}
    assert [stored[n].earned for n in sorted(stored)] == [15, 0, 0]
    assert [stored[n].status for n in sorted(stored)] == ["graded", "graded", "malformed"]
    command += ["--floor", "L9"]
    wrong = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert wrong.returncode == 2
    assert "expected one of L4, L3, L3u" in wrong.stderr
