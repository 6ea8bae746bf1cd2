"""Which cells run, and which statements an answer alone needs; what a box says of them."""

import pytest

from gdm_course.grading.guest.cells import Cell, alone, disturbed, looked_into, plan
from gdm_course.grading.guest.names import needs, steps
from gdm_course.grading.judge.told import Told, absent, earlier, told
from gdm_course.grading.judge.verdict import Status


def cells(*sources: str, known: int = 0) -> list[Cell]:
    """Cells, of which the first few are the exercise's own."""
    return looked_into([{"source": s, "known": i < known} for i, s in enumerate(sources)])


def texts(found: list[tuple[int, str]]) -> list[str]:
    return [text for _, text in found]


def needed(source: str) -> set[str]:
    always = {"print", "get_ipython", "eval", "globals", "__name__", "_"}
    return needs(source, steps(source)) - always


# What a cell reads and defines ------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\nprint(x)", ""),
        ("x = x.tolist()", "x"),
        ("x += 1", "x"),
        ("def f():\n    return x\n\n\nx = 1", ""),
        ("y = f()\ndef f(): return 1", "f"),
        ("if a:\n    x = 1\nprint(x)", "a x"),
        ("for i in a:\n    x = i\nprint(x, i)", "a"),
        ("class A(A):\n    b = c\n    d = b", "A c"),
        ("class A:\n    x = 1\n\n\nprint(x)", "x"),
        ("@d\ndef f(a: t, b=e) -> r: return g", "d e g r t"),
        ("[x for x in a]; [y for z in b]", "a b y"),
        ("def f():\n    global x\n    x = 1\n\n\nf()\nprint(x)", ""),
        ("print('the data x of it')", ""),
        ("'''a docstring of x'''\ndef f():\n    'of y'\n    return eval('z')", "z"),
        ("eval('m.log(2)') + eval(f'n({1})') + eval('q({})'.format(1))", "m n q"),
        ("globals()['x']", "x"),
        ("%%time\nx = y", "y"),
        ("%%capture out\n%%time\nx = y", "y"),
        ("%time x = y", "y"),
        ("%%timeit\nx = y", "y"),
        ("%%bash\nx = y", ""),
        ("%%writefile x.py\ny", ""),
        ("%matplotlib inline\n!ls\nhelp?", "help inline ls"),
        ("await x", "x"),
        ("a b c", "a b c"),
    ],
)
def test_what_a_cell_reads_from_elsewhere(source, expected):
    assert needed(source) == {*expected.split()}


@pytest.mark.parametrize(
    ("source", "sets", "lost"),
    [
        ("%%time\ndef f(): pass", "f", ""),
        ("\n\n%%capture x y\nimport a.b as f, c.d", "f c", ""),
        ("%%unheard_of\nf = 1", "f", ""),
        ("%%timeit\ndef f(): pass", "", "f"),
        ("%%bash\nf = 1", "", ""),
        ("%%writefile f.py\nf = 1", "", ""),
        ("try:\n    import f\nexcept E as e:\n    g = 1", "e f g", ""),
    ],
)
def test_what_a_cell_defines(source, sets, lost):
    found = steps(source)
    assert {n for s in found for n in s.sets} == {*sets.split()}
    assert {n for s in found for n in s.lost} == {*lost.split()}


# All together -----------------------------------------------------------------------------


def test_imports_run_whole_and_of_the_rest_what_is_needed():
    """Imports one by one; definers of globals that are read; parameters do not count."""
    known = [
        "import math\nimport torch\nplot.style()",
        "import json\nx = 1",
        "helper = 2",
        "def asked():\n    raise NotImplementedError",
    ]
    mine = "def mine(x):\n    return math.pi * helper * x"
    made = cells(*known[:3], mine, known[3])
    made = looked_into([{"source": c.source, "known": c.source != mine} for c in made])
    imports = ["import math", "import torch", "plot.style()", "import json"]
    assert texts(plan(made, ["asked"])) == [*imports, "helper = 2", mine, known[3]]


def test_a_stub_does_not_undo_an_answer_above_it():
    stub, answer = "def f():\n    raise NotImplementedError", "def f():\n    return 1"
    made = looked_into(
        [{"source": answer, "known": False}, {"source": stub, "known": True}]
    )
    assert texts(plan(made, ["f"])) == [answer]
    assert texts(alone(made, "f")) == [answer]
    wrapped = looked_into(
        [{"source": stub, "known": True}, {"source": "f = cache(f)", "known": False}]
    )
    assert texts(plan(wrapped, ["f"])) == [stub, "f = cache(f)"]


# One alone --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["while True: pass", "def f(): pass", "while True: f()"], "def f"),
        (["x = 1", "def f(): return x + y", "y = 2", "x = 3"], "x = 1|def f|y = 2"),
        (["class f: pass", "class f(f): pass", "f.a = 1"], "class f:|class f(f)|f.a"),
        (["x = []\nfor i in r:\n    x.append(i)\nf = lambda: x"], "x = []|for|f = lambda"),
        (["%%time\ndef f(): return 1\nwhile True: pass"], "def f"),
        (["import a, b\nfrom c import *", "def f(): a"], "import a|from c|def f"),
        (["%%writefile a.py\nx = 1", "import a", "def f(): a.x"], "get_ip|import a|def f"),
        (["torch.manual_seed(1)\nfit(1)", "def f(): torch.rand(1)"], "torch.man|def f"),
        (["this is no Python f", "def f(): pass"], "def f"),
        (["def f():\n    global n\n    n += 1\nn = 0\nn = 'below'"], "def f|n = 0|n = "),
        (["def g():\n    global x\n    x = 1\ng()\nh()", "def f(): x"], "def g|g()|def f"),
    ],
)
def test_an_answer_alone_needs_these_statements_only(sources, expected):
    found = texts(alone(cells(*sources), "f"))
    starts = expected.split("|")
    assert len(found) == len(starts), found
    assert all(text.startswith(s) for text, s in zip(found, starts)), found


@pytest.mark.parametrize(
    ("below", "expected"),
    [
        ("import os\ndef other(): pass\nclass A: pass", False),
        ("def g(): pass", True),
        ("import g", True),
        ("torch.set_grad_enabled(False)", True),
        ("x = 1", True),
    ],
)
def test_what_may_disturb_an_answer(below, expected):
    made = cells("x = 0", "def f(): return g()", below)
    assert disturbed(made, "f") is expected
    own = [Cell(c.number, c.source, c.number == 3, c.steps) for c in made]
    assert disturbed(own, "f") is False


# What the judge is told -------------------------------------------------------------------


@pytest.mark.parametrize(
    "why",
    [None, 3, [], {"a": 3}, {"a": {"own": 3}}, {"a": {"own": [[1]]}}]
    + [
        {"a": {"own": [[n, "x"]], "uses": [[n, "x"]]}}
        for n in (0, -1, 3000, True, "1", 1.0)
    ]
    + [{"a": {"own": [[1, 2]], "uses": [[1, None]], "timed": [{}]}}],
)
def test_a_lie_about_cells_is_passed_over(why):
    said = told({"why": why}, ["a"])
    assert absent(said, "a", Status.GRADED) == (Status.MISSING, "no cell defines 'a'")
    assert earlier(said, "a") == ""


def test_missing_is_said_only_when_no_cell_defines_it():
    said = Told(why={"a": {"own": [(4, "NameError")], "uses": [(2, "<b>")]}})
    status, sentence = absent(said, "a", Status.GRADED)
    assert status is Status.GRADED
    assert sentence == (
        "code cell 4 from the top, which defines it, stopped with NameError; "
        "code cell 2 from the top, which it needs, stopped with an error before"
    )
    stub = Told(why={"a": {"own": [(4, "NotImplementedError")]}})
    assert absent(stub, "a", Status.GRADED) == (Status.MISSING, "not answered yet")
    timed = Told(why={"a": {"timed": [(3, "")]}})
    assert (
        "code cell 3 from the top does so inside of %%timeit" in absent(timed, "a", "")[1]
    )
