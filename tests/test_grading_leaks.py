"""No callable of a box is an answer: every one is tried, on every question of its unit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gdm_course.authoring.course import load
from gdm_course.checks.question import run
from gdm_course.grading.guest.packing import pack_ask
from gdm_course.grading.judge import stage
from gdm_course.grading.judge.assignment import Assignment, assignments
from gdm_course.grading.judge.judge import asks_of
from gdm_course.source import ROOT
from tests.turns import now

MAPS = assignments(load(ROOT))
del MAPS["challenges/capstone"]  # what it asks for is trained: nothing there is an answer
PROGRAM = Path(__file__).parent / "box_callables.py"
SECRET = 2**100 + 1


def leaks(made: list[Assignment], where: Path, deep: bool = False) -> list[set[tuple]]:
    """What in the box of each assignment answers which question."""
    stages, jobs = [stage.build(one) for one in made], []
    for one, place in zip(made, stages):
        questions = {}
        for name, question in one.questions.items():
            asks = asks_of(question, SECRET)
            wanted = [*run(asks[0], question.reference)]
            drawn = question.kind == "statistical"
            questions[name] = ([pack_ask(ask) for ask in asks], wanted, drawn)
        jobs.append({"place": str(place), "questions": questions})
    try:
        torch.save(jobs, where / "jobs")
        env = {"PATH": os.environ["PATH"], "HOME": str(where), "GDM_OFFLINE": "1"}
        env |= {"GDM_SMOKE": "1", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-P", "-s", str(PROGRAM), "jobs", "found", "1" * deep]
        subprocess.run(command, cwd=where, env=env, check=True, stderr=subprocess.PIPE)
    finally:
        for place in stages:
            shutil.rmtree(place)
    return [right(one, where / f"found.{i}") for i, one in enumerate(made)]


def right(made: Assignment, path: Path) -> set[tuple]:
    """Those of the reported answers that the judge takes."""
    found = set()
    for name, way, answers in torch.load(path, weights_only=True):
        question = made.questions[name]
        if question.judge(asks_of(question, SECRET), [tuple(a) for a in answers]) is None:
            found.add((name, way))
    return found


def bare(key: str) -> Assignment:
    """An assignment that withholds nothing."""
    made = Assignment(key, MAPS[key].points, MAPS[key].known)
    made.__dict__.update(questions=MAPS[key].questions, made=MAPS[key].made)
    made.__dict__["withheld"] = frozenset()
    return made


# Answers that `torch.sub` gives as well: (x - shift) / 1 is the difference asked for.
PLAIN = {("optimal_logit", "gdm_course.diffusion.decoders.RealDecoder(False, True).embed")}


@pytest.mark.parametrize("waits", [False, pytest.param(True, marks=pytest.mark.full)])
def test_nothing_in_a_box_answers_a_question(waits, tmp_path):
    """A second copy of the MMD, in InfoVAE's module, was worth three points."""
    chosen = now(MAPS, one_of=3)
    keys = [key for key in MAPS if (key not in chosen) == waits]
    found = leaks([MAPS[key] for key in keys], tmp_path)
    beyond = {key: sorted(one - PLAIN) for key, one in zip(keys, found)}
    assert {key: one for key, one in beyond.items() if one} == {}


@pytest.mark.full
def test_nothing_does_in_another_order_or_by_a_small_step_more(tmp_path):
    found = leaks([*MAPS.values()], tmp_path, deep=True)
    assert {key: sorted(one) for key, one in zip(MAPS, found) if one} == {}


def test_an_answer_that_is_not_withheld_is_found(tmp_path):
    """Functions, methods, and classes that some of the arguments build."""
    keys = ["foundations/densities", "vae/vae", "vae/vqvae"]
    found = leaks([bare(key) for key in keys], tmp_path)
    names = [{name for name, _ in one} for one in found]
    assert {"wasserstein_1d", "mmd2_unbiased"} <= names[0]
    assert {"responsibilities", "gaussian_kl", "logistic_bin"} <= names[1], "Mixture(...)"
    assert {"nearest_code", "straight_through"} <= names[2]
    assert any(".posterior" in way for _, way in found[1])
