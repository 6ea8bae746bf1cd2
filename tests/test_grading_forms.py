"""Unusual answers, through the check of a notebook and through a box: they agree."""

from functools import cache

import pytest
import torch
from torch import nn

from gdm_course.checks import arrays
from gdm_course.checks.ask import Ask
from gdm_course.checks.draws import generator
from gdm_course.checks.question import Question, Verdict, close, describe, run
from gdm_course.grading.box.ladder import LADDER
from gdm_course.grading.guest import wire
from gdm_course.grading.judge.assignment import Assignment
from gdm_course.grading.judge.boxes import Boxes
from gdm_course.grading.judge.judge import grade
from gdm_course.grading.judge.notebook import Cell, Notebook
from gdm_course.grading.judge.session import Budget
from gdm_course.grading.judge.verdict import RIGHT, Result

BEST = next((r for r in LADDER if r.name in ("L3", "L3u") and r.missing() is None), None)
IMPORTS = """import collections
import fractions

import numpy as np
import torch
from torch import nn
"""


def whole(*shape: int):
    """Draw small whole numbers: every type of number holds them and their doubles."""
    return lambda g: (torch.randint(0, 9, shape, generator=g).float(),)


class Masked(nn.Module):
    def __init__(self, D: int):
        super().__init__()
        self.W = nn.Parameter(torch.zeros(D, D))

    def forward(self, x):
        return x @ self.W.tril().T


def weighed(name: str) -> Question:
    """A question about a class that gets its weights from the judge."""

    def asks(seed: int) -> list[Ask]:
        g = generator(seed)
        state = {"W": torch.randn(4, 4, generator=g)}
        return [Ask(args=(torch.randn(6, 4, generator=g),), init=(4,), state=state)]

    return _compared(name, Masked, asks)


def sloped(name: str) -> Question:
    """A question about a derivative."""

    def asks(seed: int) -> list[Ask]:
        g = generator(seed)
        return [Ask(args=(torch.randn(5, generator=g),), jacobian=True)]

    return _compared(name, lambda x: x**2, asks)


def _compared(name, reference, asks) -> Question:
    def judge(asks, answers):
        for ask, answer in zip(asks, answers):
            if wrong := describe(answer, run(ask, reference), 1e-4, 1e-5):
                return wrong
        return None

    return Question(name, reference, asks, judge)


ASKED = {
    "vector": lambda name: close(name, lambda x: 2 * x, whole(5)),
    "long": lambda name: close(name, lambda x: 2 * x, whole(100)),
    "matrix": lambda name: close(name, lambda x: 2 * x, whole(5, 3)),
    "scalar": lambda name: close(name, lambda x: x.sum(), whole(5)),
    "truth": lambda name: close(name, lambda x: x > 3, whole(5)),
    "pair": lambda name: close(name, lambda x: (x.sum(), x.max()), whole(5)),
    "vectors": lambda name: close(name, lambda x: (x, 2 * x), whole(5)),
    "uneven": lambda name: close(name, lambda x: (x, x.sum()), whole(5)),
    "three": lambda name: close(name, lambda x: (x, 2 * x, x.sum()), whole(5)),
    "class": weighed,
    "slope": sloped,
}
# what is asked, is it right, and the answer: an expression of x, or a whole definition
ANSWERS = [
    ("vector", True, "[2 * float(a) for a in x]"),
    ("vector", True, "tuple(2 * a.item() for a in x)"),
    ("vector", True, "[2 * a for a in x]"),
    ("vector", True, "[np.float32(2 * a) for a in x]"),
    ("vector", True, "(2 * a for a in x)"),
    ("vector", True, "map(lambda a: 2 * a, x)"),
    ("vector", True, "collections.deque(2 * a.item() for a in x)"),
    ("vector", True, "[int(2 * a) if i else float(2 * a) for i, a in enumerate(x)]"),
    ("vector", True, "[fractions.Fraction(int(2 * a)) for a in x]"),
    ("vector", True, "(2 * x,)"),
    ("vector", True, "[2 * x]"),
    ("vector", True, "[[2 * float(a) for a in x]]"),
    ("vector", True, "nn.Parameter(2 * x)"),
    ("vector", True, "(2 * x).requires_grad_().mul(1)"),
    ("vector", True, "(2 * x).to_sparse()"),
    ("vector", True, "(x + 2j * x).imag"),
    ("vector", True, "torch.stack([x, 2 * x], 1)[:, 1]"),
    ("vector", True, "np.flip(2 * x.numpy()[::-1])"),
    ("vector", True, "np.array(2 * x).astype('>f8')"),
    ("vector", True, "np.array(2 * x).astype('>i2')"),
    ("vector", True, "np.array([2 * a.item() for a in x], dtype=object)"),
    ("vector", True, "np.ma.array(2 * x.numpy())"),
    *(
        ("vector", True, f"(2 * x).numpy().astype(np.{kind})")
        for kind in ("float16", "longdouble", "int8", "uint8", "uint16", "uint32", "uint64")
    ),
    *(
        ("vector", True, f"(2 * x).to(torch.{kind})")
        for kind in ("float16", "bfloat16", "float64", "int8", "int16", "uint8", "uint16")
    ),
    ("vector", True, "(2 * x).to(torch.uint32)"),
    ("vector", True, "(2 * x).to(torch.uint64)"),
    ("long", True, "[2 * float(a) for a in x]"),
    ("long", True, "(2 * a for a in x)"),
    ("matrix", True, "[[2 * float(a) for a in row] for row in x]"),
    ("matrix", True, "[2 * row for row in x]"),
    ("matrix", True, "[[2 * a for a in row] for row in x]"),
    ("matrix", True, "np.matrix((2 * x).numpy())"),
    ("matrix", True, "np.asfortranarray((2 * x).numpy())"),
    ("scalar", True, "x.sum().item()"),
    ("scalar", True, "int(x.sum())"),
    ("scalar", True, "np.float16(x.sum())"),
    ("scalar", True, "np.array(x.sum())"),
    ("scalar", True, "(x.sum(),)"),
    ("truth", True, "[bool(a > 3) for a in x]"),
    ("truth", True, "(x > 3).int()"),
    ("truth", True, "(x > 3).numpy().astype(float)"),
    ("pair", True, "[float(x.sum()), int(x.max())]"),
    ("pair", True, "torch.stack([x.sum(), x.max()])"),
    ("pair", True, "np.array([x.sum(), x.max()])"),
    ("pair", True, "collections.namedtuple('Pair', 'a b')(x.sum(), x.max())"),
    ("vectors", True, "[x, 2 * x]"),
    ("vectors", True, "torch.stack([x, 2 * x])"),
    ("vectors", True, "[[*x], [2 * a for a in x]]"),
    ("vectors", True, "(k * x for k in (1, 2))"),
    ("uneven", True, "[x.numpy(), float(x.sum())]"),
    ("uneven", True, "[x.tolist(), x.sum()]"),
    ("uneven", True, "(*x, x.sum())"),
    ("three", True, "(torch.stack([x, 2 * x]), x.sum())"),
    ("slope", True, "[a**2 for a in x]"),
    ("slope", True, "(a * a for a in x)"),
    # the same numbers in another shape are another answer
    ("vector", False, "2 * x[:, None]"),
    ("vector", False, "2 * x[None]"),
    ("vector", False, "[[2 * float(a)] for a in x]"),
    ("vector", False, "[2 * a[None] for a in x]"),
    ("vector", False, "np.matrix((2 * x).numpy())"),
    ("vector", False, "[2 * float(a) for a in x] + [0.0]"),
    ("vector", False, "[2 * float(a) for a in x.flip(0)]"),
    ("matrix", False, "[2 * column for column in x.T]"),
    ("matrix", False, "2 * x.flatten()"),
    ("scalar", False, "x.sum()[None, None]"),
    ("scalar", False, "torch.full_like(x, x.sum())"),
    ("scalar", False, "[x.sum(), x.sum()]"),
    ("pair", False, "torch.stack([x.max(), x.sum()])"),
    ("pair", False, "torch.stack([x.sum(), x.max()])[:, None]"),
    ("pair", False, "(x.sum()[None], x.max()[None])"),
    ("three", False, "(torch.stack([2 * x, x]), x.sum())"),
    ("three", False, "(x.sum(), torch.stack([x, 2 * x]))"),
    ("vectors", False, "torch.stack([x, 2 * x], 1)"),
    ("vectors", False, "torch.cat([x, 2 * x])"),
    # what is no answer: told in the same words
    ("vector", False, "None"),
    ("vector", False, "print(2 * x)"),
    ("pair", False, "(x.sum(), None)"),
    ("vector", False, "'2 x'"),
    ("vector", False, "{'answer': 2 * x}"),
    ("vector", False, "2 * x + 0j"),
    ("vector", False, "[[1.0], [1.0, 2.0]] + [[1.0]] * 40"),
    ("vector", False, "np.ma.array(2 * x.numpy(), mask=[1, 0, 0, 0, 0])"),
    ("vector", False, "np.array([object()] * 5)"),
    ("vector", False, "torch.zeros(1).expand(1 << 40)"),
    ("vector", False, "2**70_000"),
    ("slope", False, "None"),
    ("class", True, "mask = buffer(torch.ones(D, D).tril())"),
    ("class", True, "mask = nn.Parameter(torch.ones(D, D).tril(), requires_grad=False)"),
    ("class", False, "mask = nn.Parameter(torch.ones(D, D).tril())"),
]
CLASS = """class {name}(nn.Module):
    def __init__(self, D):
        super().__init__()
        self.W = nn.Parameter(torch.zeros(D, D))
        {mask}

    def forward(self, x):
        return x @ (self.W * self.mask).T
"""
FUNCTION = "def {name}(x):\n    return {answer}\n"
NAMES = [f"answer_{i}" for i in range(len(ANSWERS))]
QUESTIONS = {n: ASKED[asked](n) for n, (asked, *_) in zip(NAMES, ANSWERS)}


def source(name: str) -> str:
    asked, _, answer = ANSWERS[NAMES.index(name)]
    if asked != "class":
        return FUNCTION.format(name=name, answer=answer)
    value = answer.removeprefix("mask = ")
    mask = f"self.mask = {value}"
    if value.startswith("buffer"):
        mask = f"self.register_buffer('mask', {value.removeprefix('buffer')})"
    return CLASS.format(name=name, mask=mask)


@cache
def in_the_box() -> Result:
    """All answers at once, each under its own name."""
    made = Assignment("probe", dict.fromkeys(NAMES, 1.0), frozenset())
    made.__dict__.update(questions=QUESTIONS, made=frozenset(), withheld=frozenset())
    made.__dict__.update(fingerprint="", seconds=dict.fromkeys(NAMES, 0.0))
    boxes = Boxes(BEST, made)
    cells = (Cell(IMPORTS), *(Cell(source(name)) for name in NAMES))
    try:
        return grade(Notebook(cells), "k", made, boxes.make, Budget(total=600, scale=3))
    finally:
        boxes.close()


@cache
def in_the_notebook(name: str) -> Verdict:
    space: dict = {"__name__": "notebook"}
    exec(IMPORTS + source(name), space)
    return QUESTIONS[name].grade(space[name])


@pytest.mark.parametrize("name", NAMES, ids=[f"{a}: {s}"[:60] for a, _, s in ANSWERS])
def test_notebook_and_box_say_the_same(name):
    _, right, _ = ANSWERS[NAMES.index(name)]
    here = in_the_notebook(name)
    assert here.right is right, here.message
    if BEST is None:
        pytest.skip("no bubblewrap on this machine")
    there = next(mark for mark in in_the_box().marks if mark.name == name)
    assert there.right is right, there.message
    said = here.message.partition(":")[0] if "raises" in here.message else here.message
    assert there.message == (RIGHT if right else said)


def test_what_an_answer_may_hold_is_what_a_frame_holds():
    """Two files cannot import each other; a box has to be able to send what it accepts."""
    assert arrays.MAX_ARRAYS <= wire.MAX_ARRAYS
    assert arrays.MAX_DIMENSIONS <= wire.MAX_DIMENSIONS
    assert arrays.MAX_BYTES <= wire.MAX_BODY
    assert {*wire.NAMES} == arrays.PLAIN


def test_an_answer_is_a_copy():
    """A buffer that is returned again and again keeps what it held at each call."""
    x = torch.zeros(3)
    first = arrays.to_arrays(x)
    array = x.numpy()
    second = arrays.to_arrays(array)
    x += 1
    assert not first[0].any()
    assert not second[0].any()


def test_missing_weights_are_still_missing():
    """Only what is no weight may be absent from what the judge sends."""

    class Other(Masked):
        def __init__(self, D):
            super().__init__(D)
            self.b = nn.Parameter(torch.zeros(D))

    verdict = weighed("Other").grade(Other)
    assert not verdict.right
    assert "b" in verdict.message
