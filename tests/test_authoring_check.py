"""`gdm check` fails on each thing that it promises to find, and names the repair."""

import json

import mini_course as mini
import pytest
from mini_course import synced_course  # noqa: F401

from gdm_course.authoring import derive
from gdm_course.authoring.check import check

MODULE = "gdm_course/alpha/unit0.py"
LECTURE = "lectures/alpha/src/unit0.py"
SOLUTION = "solutions/alpha/src/unit0.py"
CHECKS = "gdm_course/checks/alpha/unit0.py"
TOML = "gdm_course/course.toml"
LONG = "def longest(x):\n" + "    x += 1\n" * 40
OWN_MODEL = "# %%\nclass Mine(nn.Module):\n    pass\n\n\n# %% [markdown]\n# ### Detail"


def edited(path, old, new):
    return lambda root: mini.edit(root, path, old, new)


def appended(path, text):
    return lambda root: mini.put(root, path, (root / path).read_text() + text)


def removed(path):
    return lambda root: (root / path).unlink()


def stored(path, change):
    """A change of a stored notebook's JSON, as an editor or a student would make it."""

    def act(root):
        notebook = mini.notebook(root, path)
        change(notebook)
        mini.put(root, path, json.dumps(notebook))

    return act


def run_it(notebook):
    notebook["cells"][3]["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": "2"}
    ]
    notebook["cells"][3]["execution_count"] = 7


def leak_in_output(notebook):
    text = "squared_by_hand = y * y"
    output = {"output_type": "stream", "name": "stdout", "text": [text]}
    notebook["cells"][3]["outputs"] = [output]


def leak_in_metadata(notebook):
    notebook["cells"][3]["metadata"]["hint"] = "squared_by_hand = y * y"


def leak_in_key(notebook):
    notebook["metadata"]["squared_by_hand = y * y"] = 1


def leak_in_markdown(notebook):
    notebook["cells"][0]["source"] = ["Try `squared_by_hand = y * y`"]


def other_text(notebook):
    notebook["cells"][0]["source"] = ["# Mine"]


def orphan(root):
    mini.put(root, "lectures/alpha/src/x.py", "")


IN_NOTEBOOK = "lectures/alpha/unit0.ipynb"
EXERCISE = "exercises/alpha/unit0.ipynb"
SECRET = "gives away 'squared_by_hand = y * y'"
TWICE = "gives away 'return \"something secret\"'"
AGAIN = 'check.Net(Net)\n\n\ndef f():\n    return "something secret"'
BETA = '\n"beta/new" = { anatomy = "sheet", needs = [], points = {} }\n'

CASES = {
    "package edited": (edited(MODULE, "x / 2", "x / 3"), "x / 3", "gdm sync"),
    "quote edited": (edited(LECTURE, "x / 2", "x / 3"), "+    return x / 2", "gdm sync"),
    "script edited": (edited(LECTURE, "slowly", "slower"), "+Speak slower", "gdm sync"),
    "points edited": (edited(TOML, "square = 2", "square = 9"), '"points": 9', "gdm sync"),
    "notebook missing": (removed(IN_NOTEBOOK), "is missing", "gdm sync"),
    "notebook edited": (
        stored(IN_NOTEBOOK, other_text),
        "edited by hand",
        "gdm adopt lectures",
    ),
    "exercise edited": (stored(EXERCISE, other_text), "edited by hand", "gdm sync --force"),
    "outputs": (stored(IN_NOTEBOOK, run_it), "stores outputs", "gdm sync"),
    "readme table": (
        edited("README.md", "| 3 |", "| 10 |"),
        "README.md: gener",
        "gdm sync",
    ),
    "readme marker": (
        edited("README.md", "<!-- /gdm:units -->", ""),
        "has no block",
        "write",
    ),
    "long definition": (
        appended(MODULE, LONG),
        "unit0.py:23: longest has 41 lines",
        "parts",
    ),
    "own model": (
        edited(LECTURE, "# %% [markdown]\n# ### Detail", OWN_MODEL),
        "Mine",
        "quote",
    ),
    "unknown quote": (edited(LECTURE, "unit0.half", "unit0.no"), "defines no 'no'", "half"),
    "unknown tag": (edited(LECTURE, '"notes"', '"note"'), "unknown tag 'note'", "notes"),
    "no setup": (edited(LECTURE, ' tags=["setup"]', ""), "no cell tagged 'setup'", "empty"),
    "no solution": (removed(SOLUTION), f"{SOLUTION} is missing", "course.toml"),
    "no checks": (removed(CHECKS), f"{CHECKS} is missing", "course.toml"),
    "new unit": (
        appended(TOML, BETA),
        "lectures/beta/src/new.py is missing",
        "course.toml",
    ),
    "orphan script": (orphan, "lectures/alpha/src/x.py belongs to no unit", "add"),
    "no such question": (
        edited(TOML, "Net = 3", "Ned = 3"),
        "'Ned' has points",
        "no question",
    ),
    "no points": (
        edited(TOML, ", Net = 3", ""),
        "'Net' is a question but has no",
        "points",
    ),
    "never asked": (
        edited(SOLUTION, "check.Net(Net)", "1"),
        "'Net' is a question that",
        "never",
    ),
    "asked in vain": (
        edited(SOLUTION, "check.Net(Net)", "check.N(N)"),
        "'N' is asked by",
        "N",
    ),
    "unclosed": (
        edited(SOLUTION, "    ### END SOLUTION\n", ""),
        "'### BEGIN SOLUTION' without",
        "in this cell",
    ),
    "nameless": (
        edited(SOLUTION, "def square(x):", "if True:"),
        "must define a function",
        "",
    ),
    "link": (
        edited(LECTURE, "Now the", "[N](../beta/no.ipynb) the"),
        "does not exist",
        "../beta",
    ),
    "anchor": (edited(LECTURE, "Now the", "[N](#Built) the"), "names a heading", "#Built"),
    "image": (appended("CONTRIBUTING.md", "![a](docs/no.png)"), "docs/no.png", "not exist"),
    "pasted": (
        edited(LECTURE, "Now the", "![a](attachment:b.png) the"),
        "pasted picture",
        "docs/NAME.png",
    ),
    "reference": (appended("README.md", "[a]: no.md\n"), "'no.md'", "not exist"),
    "link out": (appended("README.md", "[a](../secret.md)"), "leads out of the course", ""),
    "leak: output": (stored(EXERCISE, leak_in_output), SECRET, "gdm sync"),
    "leak: metadata": (stored(EXERCISE, leak_in_metadata), SECRET, "gdm sync"),
    "leak: key": (stored(EXERCISE, leak_in_key), SECRET, "gdm sync"),
    "leak: markdown": (stored(EXERCISE, leak_in_markdown), SECRET, "gdm sync"),
    "leak: hint": (
        edited(SOLUTION, "model: exercises", "`return squared_by_hand`"),
        "gives away 'return squared_by_hand'",
        "rewrite the public part",
    ),
    "leak: code": (
        edited(SOLUTION, "check.Net(Net)", AGAIN),
        TWICE,
        "rewrite the public part",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_check_finds(course, case):
    act, sentence, repair = CASES[case]
    assert check(course) == []
    act(course)
    told = [str(problem) for problem in check(course)]
    assert any(sentence in line and repair in line for line in told), told


REPAIRED = [case for case in CASES if CASES[case][2] == "gdm sync"]


@pytest.mark.parametrize("case", REPAIRED)
def test_the_repair_that_check_names_repairs(course, case):
    CASES[case][0](course)
    force = any("--force" in problem.repair for problem in check(course))
    derive.sync(course, force)
    assert check(course) == []


def test_a_diff_is_short(course):
    lines = "".join(f"# line {i}\n" for i in range(100))
    mini.edit(course, LECTURE, "# Speak slowly.\n", lines)
    (problem,) = check(course)
    assert len(str(problem).splitlines()) <= 16
    assert "more lines" in problem.diff


@pytest.mark.parametrize(
    "line", ["import torch", "y = x", "# mean", "from gdm_course.checks.alpha import unit0"]
)
def test_ordinary_lines_are_no_leak(course, line):
    mini.edit(course, SOLUTION, "    squared_by_hand = y * y", f"    {line}\n    z = y * y")
    mini.edit(course, SOLUTION, "return squared_by_hand", "return z")
    mini.edit(course, SOLUTION, 'print("done")', f"{line}\nz = 1")
    derive.sync(course)
    assert check(course) == []


def test_links_in_code_and_formulas_are_no_links(course):
    text = "`[a](no.md)` and $f[x](y)$ and [a](https://example.org) [b](#build-it)"
    mini.edit(course, LECTURE, "# Now the model.", f"# {text}\n#\n# ## Build it")
    derive.sync(course)
    assert check(course) == []
