"""A synthetic checkout for the tests of authoring: two families, any number of units."""

import json
from pathlib import Path

import pytest

from gdm_course.authoring import derive

MODULE = '''"""A module."""

import torch
from torch import nn


def double(x):
    """Twice x."""
    return 2 * x


@torch.no_grad()
def half(x):
    """Half of x."""
    return x / 2


class Model(nn.Module):
    """A model."""

    def forward(self, x):
        return double(x)  # (B, D)
'''

LECTURE = """# %% [markdown]
# # The {name} model
#
# What the {name} model is
# about, in $x$.

# %% [markdown] tags=["nav"]

# %% tags=["setup"]

# %%
import torch
from torch import nn

# %pip list

# %% [markdown]
# ## Build
#
# The mean is
#
# $$\\\\bar x = 1$$ (1)
#
# - a list with `code`

# %% tags=["from:{family}.{unit}.half"]

# %% [markdown]
# Now the model.

# %% tags=["from:{family}.{unit}.Model", "subslide"]

# %%
assert Model()(torch.ones(2)).sum() == 4


# %% [markdown]
# ### Detail

# %% [markdown] tags=["notes"]
# Speak slowly.

# %% [markdown] tags=["nav"]
"""

SOLUTION = '''# %% [markdown]
# # The {name} model: exercises

# %% [markdown] tags=["nav"]

# %% tags=["setup"]

# %%
import torch

from gdm_course.checks.{family} import {unit} as check


# %%
def square(x):
    """The square of x."""
    y = x
    ### BEGIN SOLUTION
    squared_by_hand = y * y
    return squared_by_hand
    ### END SOLUTION


# %%
check.square(square)
print("done")

# %% [markdown] tags=["solution"]
# The trick is to multiply it with itself.


# %%
class Net:
    """A net."""

    def forward(self, x):
        if x > 0:
            ### BEGIN SOLUTION
            return x + 40_000_001
            ### END SOLUTION

    def again(self):
        ### BEGIN SOLUTION
        return "something secret"
        ### END SOLUTION


# %%
check.Net(Net)
'''

CHECKS = """from gdm_course.checks.question import Question, close

HELPERS = dict(a=1)
square = close("square", None, None)
Net = Question("Net", None, None, None)
"""

QUESTION = """class Question: ...


def close(name) -> Question: ...
"""

FAMILIES = ("alpha", "beta")


def make(root: Path, n: int = 3, repository: str = "") -> Path:
    """Write a checkout with `n` units, over two families, each needing the one before."""
    units, before = [], []
    for i in range(n):
        names = {"family": FAMILIES[i * 2 // n], "unit": f"unit{i}", "name": f"unit{i}"}
        key = f"{names['family']}/{names['unit']}"
        put(root, f"gdm_course/{key}.py", MODULE)
        put(root, f"gdm_course/checks/{key}.py", CHECKS)
        put(root, f"lectures/{names['family']}/src/unit{i}.py", fill(LECTURE, names))
        put(root, f"solutions/{names['family']}/src/unit{i}.py", fill(SOLUTION, names))
        points = "points = { square = 2, Net = 3 }"
        needs = f"needs = {json.dumps(before)}"
        units.append(f'"{key}" = {{ anatomy = "sheet", {needs}, {points} }}')
        before = [key]
    put(root, "gdm_course/checks/question.py", QUESTION)
    put(root, "gdm_course/course.toml", toml(repository, units))
    put(root, "README.md", "# Read\n\n" + blocks("units") + blocks("measured"))
    put(root, "CONTRIBUTING.md", "# Help\n\nSee [the course](README.md#read).\n")
    return root


def toml(repository: str, units: list[str]) -> str:
    """The text of course.toml."""
    head = 'title = "Mini"\nsubtitle = "small"\nbranch = "main"\n'
    head += f'repository = "{repository}"\n'
    families = '[families]\nalpha = "The first"\nbeta = "The second"\n'
    return "\n".join([head, families, "[units]", *units, ""])


def blocks(name: str) -> str:
    """An empty generated block."""
    return f"<!-- gdm:{name} -->\n<!-- /gdm:{name} -->\n"


def fill(text: str, names: dict[str, str]) -> str:
    """Put names into a template that is full of braces of its own."""
    for key, value in names.items():
        text = text.replace("{" + key + "}", value)
    return text.replace("\\\\", "\\")


def put(root: Path, path: str, text: str) -> None:
    """Write a file and its folders."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def edit(root: Path, path: str, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = (root / path).read_text(encoding="utf-8")
    assert old in text, f"{path} has no '{old}'"
    put(root, path, text.replace(old, new))


def notebook(root: Path, path: str) -> dict:
    """Load a notebook."""
    return json.loads((root / path).read_text(encoding="utf-8"))


def sources(notebook: dict, kind: str = "code") -> list[str]:
    """The texts of a notebook's cells of one kind."""
    return ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == kind]


@pytest.fixture(name="course")
def synced_course(tmp_path) -> Path:
    """A synced checkout of three units; a test file that imports this has `course`."""
    make(tmp_path, 3)
    written, problems = derive.sync(tmp_path)
    assert not problems
    assert len(written) == 6 + 9 + 2  # scripts, notebooks, index and README
    return tmp_path
