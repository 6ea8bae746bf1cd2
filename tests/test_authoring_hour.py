"""The hour of a lecture: what is counted, by hand, on a script whose counts are known."""

import pytest

from gdm_course.authoring import hour
from gdm_course.authoring.hour import Counts
from gdm_course.authoring.percent import Script, read

SCRIPT = '''# %% [markdown]
# # Four words of title
#
# Two words.

# %% [markdown] tags=["nav"]
# not counted at all

# %% tags=["setup"]
import not_counted

# %%
import torch

x = torch.ones(3)  # three lines, one of them empty


# %% [markdown] tags=["notes"]
# **Question** for the room, which no student reads.

# %% [markdown]
# **Predict** five words with heading.
#
# <details><summary>Answer</summary>
#
# It is `x + 1`, so $a + b + c$ and
#
# $$not\\;counted \\tag{1}$$
#
# </details>

# %% tags=["from:alpha.unit1.double"]
def double(x):
    """Three lines that are seen."""

    return 2 * x


# %% tags=["fold"]
# @title A picture
plot.scatter(x)

# %% [markdown]
# ## Summary
#
# Done.
#
# ## Further: more of it
#
# **Change** this line.

# %%
y = x

# %% [markdown]
# ## Further: the rest

# %% tags=["from:alpha.unit1.half"]
half = 1
'''


@pytest.fixture(name="script")
def counted() -> Script:
    return read(SCRIPT, "lectures/alpha/src/unit1.py")


def test_a_known_script_has_known_counts(script):
    told = hour.hour(script)
    #     title 4, text 2, question 5, summary 1, answer 4 (It is so and), last two 1 + 1
    core = Counts(words=18, quoted=3, other=2, questions=1, cells=3, folded=1)
    assert told.core == core
    #     headings 4 and 3, change 3
    assert told.further == Counts(words=10, quoted=1, other=1, questions=1, cells=2)


def test_sections_are_the_core_and_what_is_headed_further(script):
    core, more, rest = hour.sections(script)
    assert (core.title, more.title, rest.title) == (
        "",
        "Further: more of it",
        "Further: the rest",
    )
    text = SCRIPT.split("\n")
    assert text[more.line - 1] == "# ## Further: more of it"
    assert text[rest.line - 1] == "# ## Further: the rest"
    assert core.cells[-1].source == "## Summary\n\nDone.\n"


def test_a_heading_of_level_2_ends_a_further_section():
    text = "# %% [markdown]\n# # A\n#\n# ## Further: b\n#\n# ### c\n#\n# ## D\n"
    titles = [section.title for section in hour.sections(read(text, "a.py"))]
    assert titles == ["", "Further: b", ""]


@pytest.mark.parametrize(
    ("counts", "minutes"),
    [
        (Counts(), 0),
        (Counts(cells=1, folded=1), 2),  # it is run all the same
        (Counts(words=1400), 12),
        (Counts(quoted=80), 12),
        (Counts(other=200), 12),
        (Counts(questions=5), 12),
        (Counts(words=700, quoted=40, other=100, questions=5), 27),
    ],
)
def test_minutes_follow_the_formula(counts, minutes):
    assert counts.minutes == minutes


def test_an_hour_is_said_in_words():
    assert str(hour.Hour(Counts(words=8120), Counts())) == "60 minutes"
    more = hour.Hour(Counts(words=8120), Counts(words=4620))
    assert str(more) == "60 minutes, and 35 further"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("One two, three - four.", 4),
        ("`code_here` and $x + y$ and $$z \\\\ w$$", 2),
        ("```\nfenced code\n```\nafter", 1),
        ("a [link here](../no/words.ipynb) and ![unseen words](docs/no.png)", 4),
        ("| head | 2 |\n|---|--:|\n| a b | 3.5 |", 5),
        ("<details><summary>Answer</summary> one </details>", 2),
        ("a formula $x\ny$ over two lines", 5),
        ("<!-- a remark -->", 0),
    ],
)
def test_words_are_what_a_student_reads(text, words):
    assert hour.words(text) == words


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("**Question.** Why?", ["Question"]),
        ("First.\n\n**Predict before you run:** what?", ["Predict"]),
        ("**Change** a.\n\n**Predict** b.", ["Change", "Predict"]),
        ("In the middle **Predict** nothing", []),
        ("A line that\n**Predict** wraps", []),
        ("**Changes** are none", []),
        ("```\n\n**Question**\n```", []),
    ],
)
def test_a_question_begins_a_paragraph(text, kinds):
    assert [match[1] for match in hour.asked(text)] == kinds


def test_the_table_has_a_row_for_each_part(script):
    rows = hour.table([("alpha/unit1", script)]).split("\n")
    parts = ["core", "+ more of it", "+ the rest", "+ all further"]
    assert [row[25:61].strip() for row in rows[1:]] == parts
    core = ["alpha/unit1", "core", "5", "18", "3", "2", "3", "1", "1"]
    assert rows[1].split() == core
