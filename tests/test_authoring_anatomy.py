"""The rules of the hour: each is broken once, and the sentence names the line."""

import mini_course as mini
import pytest
from mini_course import synced_course  # noqa: F401

from gdm_course.authoring import derive
from gdm_course.authoring.check import check
from gdm_course.authoring.names import names
from gdm_course.authoring.percent import Cell

TOML = "gdm_course/course.toml"
LECTURE = "lectures/alpha/src/unit0.py"
SOLUTION = "solutions/alpha/src/unit0.py"
ANSWER = "# <details><summary>Answer</summary>\n#\n# Because.\n#\n# </details>\n"
QUESTIONS = "".join(
    f"# %% [markdown]\n# **{kind}** what?\n#\n{ANSWER}\n"
    for kind in ("Question", "Question", "Predict", "Change")
)
PREDICTED = f"# %% [markdown]\n# **Predict** it.\n\n# %%\n1\n\n# %% [markdown]\n{ANSWER}\n"
FURTHER = """# %% [markdown]
# ## Further: first
#
# As in (1), $$z = 1 \\\\tag{2}$$

# %%
lonely = Model()
shared = 2


# %% tags=["from:alpha.unit0.triple"]

# %% [markdown]
# ## Further: second

# %%
alone = shared_by_core(3)
"""
CORE = "\n# %%\nshared = 1\n\n\ndef shared_by_core(x):\n    return x + shared\n\n"
END = '# %% [markdown] tags=["nav"]\n'


@pytest.fixture(name="new")
def in_the_new_anatomy(course):
    """A course whose first unit keeps the rules of the hour."""
    root = course
    key = '"alpha/unit0" = { '
    mini.edit(root, TOML, key + 'anatomy = "sheet", ', key)
    text = (root / LECTURE).read_text().replace("$$ (1)", " \\tag{1}$$")
    nn = "from torch import nn\n"
    text = text.replace(nn, nn + "\nfrom gdm_course.alpha.unit0 import double\n")
    at = text.rindex(END)
    body = text[:at] + QUESTIONS + PREDICTED + CORE + "\n" + mini.fill(FURTHER, {})
    mini.put(root, LECTURE, body + "\n" + text[at:])
    module = "gdm_course/alpha/unit0.py"
    triple = '\n\ndef triple(x):\n    """Thrice x."""\n    return 3 * x\n'
    mini.put(root, module, (root / module).read_text() + triple)
    _, problems = derive.sync(root)
    assert not problems
    return root


def complaints(root) -> list[str]:
    derive.sync(root)
    return [str(problem) for problem in check(root)]


def line(root, text: str, path: str = LECTURE) -> int:
    """Where a line of a script stands."""
    rows = (root / path).read_text().split("\n")
    (found,) = [i + 1 for i, row in enumerate(rows) if row == text]
    return found


def test_a_lecture_that_keeps_the_rules_is_in_order(new):
    assert check(new) == []


CODE = "\n# %%\nshared = 1\n"
LONG = "".join(f"# %%\ny{i} = 1\n\n" for i in range(22))
BROKEN = {
    "words": (CORE, "# %% [markdown]\n# " + "word " * 2000 + "\n" + CORE, "2,0", ":1: "),
    "minutes": (CORE, "\n# %%\n" + "y = 1\n" * 1200 + CORE, "takes 7", ":1: "),
    "cells": (CORE, LONG + CORE, "has 28 code cells, at most 26", ":1: "),
    "folded cells": (
        CORE,
        LONG.replace("# %%\n", '# %% tags=["fold"]\n# @title A\n') + CORE,
        "has 28 code cells (22 of them folded), at most 26",
        ":1: ",
    ),
    "few questions": (
        f"# **Question** what?\n#\n{ANSWER}",
        "",
        "0 **Question, 2 **Predict, 1 **Change: ask at least 5",
        ":1: ",
    ),
    "few predictions": ("**Predict** it.", "**Question** it.", "2 begin with **P", ":1: "),
    "no change": ("**Change** what", "**Question** what", "1 with **Change", ":1: "),
    "no answer": (
        f"# **Change** what?\n#\n{ANSWER}",
        "# **Change** what?\n",
        "the **Change has no answer",
        "# **Change** what?",
    ),
    "an answer too late": (
        "# %%\n1\n\n# %% [markdown]\n",
        "# %%\n1\n\n# %% [markdown]\n# Text.\n\n# %% [markdown]\n",
        "the **Predict has no answer",
        "# **Predict** it.",
    ),
    "another's answer": (
        "# **Predict** it.\n",
        f"# **Predict** it.\n#\n# **Question** who?\n#\n{ANSWER}",
        "the **Predict has no answer",
        "# **Predict** it.",
    ),
    "an equation out of order": (
        "# As in (1), $$z = 1 \\tag{2}$$",
        "# $$z = 1 \\tag{3}$$",
        "equation (3) follows (1)",
        "# $$z = 1 \\tag{3}$$",
    ),
    "no such equation": (
        "# As in (1), ",
        "# As in (7), where $f(3) = 5$ and `g(4)` are none, ",
        "(7) is no equation of this lecture",
        "# As in (7), where $f(3) = 5$ and `g(4)` are none, $$z = 1 \\tag{2}$$",
    ),
    "the core needs a further section": (
        CODE,
        "\n# %%\nshared = lonely\n",
        "the core uses 'lonely', which 'Further: first' binds",
        "shared = lonely",
    ),
    "a function of the core does": (
        "    return x + shared",
        "    return x + lonely",
        "the core uses 'lonely'",
        "    return x + lonely",
    ),
    "one further section needs another": (
        "alone = shared_by_core(3)",
        "alone = [lonely for _ in range(3)]",
        "'Further: second' uses 'lonely', which 'Further: first' binds",
        "alone = [lonely for _ in range(3)]",
    ),
    "one changes what another reads": (
        "alone = shared_by_core(3)",
        "shared += 1",
        "'Further: second' uses 'shared', which 'Further: first' binds",
        "shared += 1",
    ),
    "a later one is needed": (
        "lonely = Model()",
        "lonely = alone",
        "'Further: first' uses 'alone', which 'Further: second' binds",
        "lonely = alone",
    ),
    "a quoted definition is needed": (
        "alone = shared_by_core(3)",
        "alone = triple(3)",
        "uses 'triple', which 'Further: first' binds",
        "alone = triple(3)",
    ),
    "further is not last": (
        "# ## Further: second",
        "# ## The end",
        "further sections come last",
        "# ## The end",
    ),
    "a fold without a title": (
        CODE,
        '\n# %% tags=["fold"]\nshared = 1\n',
        "must begin with '# @title'",
        '# %% tags=["fold"]',
    ),
    "a title of code": (
        CODE,
        '\n# %% tags=["fold"]\n# @title `plot`\nshared = 1\n',
        "in plain words",
        '# %% tags=["fold"]',
    ),
    "a folded quote": (
        '# %% tags=["from:alpha.unit0.triple"]',
        '# %% tags=["from:alpha.unit0.triple", "fold"]',
        "a quoted definition is there to be read",
        '# %% tags=["from:alpha.unit0.triple", "fold"]',
    ),
    "a folded text": (
        '# %% [markdown] tags=["notes"]',
        '# %% [markdown] tags=["fold"]',
        "text for the lecturer is 'notes'",
        '# %% [markdown] tags=["fold"]',
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_check_finds(new, case):
    old, text, sentence, where = BROKEN[case]
    mini.edit(new, LECTURE, old, text)
    told = complaints(new)
    place = where if where == ":1: " else f":{line(new, where)}: "
    assert any(sentence in t and t.startswith(LECTURE + place) for t in told), told


def test_what_a_further_section_imports_or_quotes_again_stays_the_same(new):
    again = '# %%\nimport torch\n\n\n# %% tags=["from:alpha.unit0.Model"]'
    mini.edit(new, LECTURE, '# %% tags=["from:alpha.unit0.triple"]', again)
    mini.edit(new, LECTURE, "alone = shared_by_core(3)", "alone = torch.ones(1), Model()")
    assert complaints(new) == []
    mini.edit(new, LECTURE, "lonely = Model()", "lonely = torch = Model()")
    assert any("uses 'torch'" in told for told in complaints(new))


def test_a_core_quotes_so_many_lines_and_no_more(new):
    for i in range(5):
        body = "".join(f"    y{j} = x\n" for j in range(35))
        path = "gdm_course/alpha/unit0.py"
        text = f"\n\ndef more{i}(x):\n{body}    return x\n"
        mini.put(new, path, (new / path).read_text() + text)
        mini.edit(new, LECTURE, CORE, f'# %% tags=["from:alpha.unit0.more{i}"]\n\n{CORE}')
    assert any("quotes 193 lines, at most 180" in told for told in complaints(new))


def test_a_sheet_may_be_as_it_is(new):
    mini.edit(new, LECTURE, QUESTIONS, LONG)
    assert complaints(new)
    key = '"alpha/unit0" = { '
    mini.edit(new, TOML, key, key + 'anatomy = "sheet", ')
    assert complaints(new) == []


def test_a_folded_cell_is_held_to_its_title_in_sheets_and_solutions(course):
    mini.edit(
        course, "solutions/beta/src/unit2.py", "# %%\nimport", '# %% tags=["fold"]\nimport'
    )
    assert any("must begin with '# @title'" in told for told in complaints(course))
    mini.edit(
        course, "solutions/beta/src/unit2.py", '["fold"]\n', '["fold"]\n#@title Tools\n'
    )
    assert not [told for told in complaints(course) if "title" in told]


@pytest.mark.parametrize(
    ("text", "sentence", "where"),
    [
        ("print(lonely)", "the exercise uses 'lonely', which", "print(lonely)"),
        (
            "from gdm_course.alpha.unit0 import triple",
            "the exercise uses 'alpha.unit0.triple', which 'Further: first' binds",
            "from gdm_course.alpha.unit0 import triple",
        ),
    ],
)
def test_an_exercise_needs_no_further_section(new, text, sentence, where):
    mini.edit(new, SOLUTION, 'print("done")', text)
    told = complaints(new)
    place = f"{SOLUTION}:{line(new, where, SOLUTION)}: "
    assert any(sentence in t and t.startswith(place) for t in told), told


@pytest.mark.parametrize(
    "text",
    [
        "lonely = 1\nprint(lonely)",  # its own
        "from gdm_course.alpha.unit0 import half",  # quoted in the core
        "def f(lonely):\n    return lonely",
    ],
)
def test_an_exercise_may_use_the_core_and_its_own_names(new, text):
    mini.edit(new, SOLUTION, 'print("done")', text)
    assert complaints(new) == []


def test_a_docstring_of_a_quote_refers_to_equations_of_the_lecture(new):
    mini.edit(new, "gdm_course/alpha/unit0.py", '"""Half of x."""', '"""Half of x: (5)."""')
    at = line(new, '# %% tags=["from:alpha.unit0.half"]') + 3
    assert any(
        told.startswith(f"{LECTURE}:{at}: (5) is no equation") for told in complaints(new)
    )


@pytest.mark.parametrize(
    ("code", "bound", "needed"),
    [
        ("import a.b, c as d\nfrom e import f as g", {"a", "d", "g"}, set()),
        ("x = x + y\nz: int = x", {"x", "z"}, {"x", "y", "int"}),
        ("x += 1", {"x"}, {"x"}),
        ("for i in range(n):\n    total = i", {"i", "total"}, {"range", "n"}),
        ("def f(a=b):\n    c = a\n    return c + d + e\n\n\nd = 1", {"f", "d"}, {"b", "e"}),
        ("g = lambda s: s + h\nh = 2", {"g", "h"}, set()),
        ("v = [w for w in u]\nu = 2", {"v", "u"}, {"u"}),
        (
            "class A(B):\n    k = m\n\n    def f(self):\n        return n",
            {"A"},
            {"B", "m", "n"},
        ),
        ("with p as q:\n    print(q)", {"q"}, {"p", "print"}),
        ("(r := 1)\n_ = r\n_", {"r"}, set()),
        ("%matplotlib inline\nx = 1", {"x"}, set()),
        ("no python at all", set(), set()),
    ],
)
def test_names_that_code_binds_and_needs(code, bound, needed):
    found = names([Cell("code", code), Cell("markdown", "# text")])
    assert set(found.bound) == bound
    assert set(found.needed) == needed
