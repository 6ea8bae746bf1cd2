"""Beginning an exercise from the index, and what is remembered of a student's answers."""

import sys

import nbformat
import pytest
from mini_course import synced_course  # noqa: F401

from gdm_course.authoring import begin, tables
from gdm_course.authoring.course import load
from gdm_course.checks import progress
from gdm_course.checks.flows import maf, realnvp
from gdm_course.publishing import pages
from gdm_course.publishing.execute import Run

KEY = "beta/unit2"


def test_the_button_makes_a_copy_once_and_links_to_it(course):
    link = "[work/beta/unit2.ipynb](../work/beta/unit2.ipynb)"
    assert begin.begun(course, KEY).startswith(f"{link} is yours")
    (course / "work/beta/unit2.ipynb").write_text("my work")
    assert f"{link} is as you left it: 0 of 2 questions" in begin.begun(course, KEY)
    assert (course / "work/beta/unit2.ipynb").read_text() == "my work"


def test_trouble_is_a_sentence_where_the_link_would_be(course):
    (course / "work").write_text("no folder")
    assert "work/beta/unit2.ipynb cannot be made" in begin.begun(course, KEY)
    assert "did you mean" in begin.begun(course, "beta/unit9")


def test_the_menu_says_how_many_questions_were_green(course):
    first, *_, unit = begin.offered(course)
    assert unit.key == KEY
    assert begin.label(course, unit) == KEY  # not begun
    begin.begun(course, KEY)
    one, two = unit.points
    progress.record(course, KEY).write_text(
        f'{{"{one}": true, "{two}": false, "old": true}}'
    )
    assert begin.label(course, unit) == f"{KEY} (1 of 2 green)"
    assert begin.label(course, first) == first.key
    (course / "work/beta/unit2.ipynb").unlink()
    begin.begun(course, KEY)  # begun anew: nothing is answered
    assert begin.label(course, unit) == f"{KEY} (0 of 2 green)"


def test_where_no_button_can_be_pressed_one_sentence_says_what_to_do(
    course, monkeypatch, capsys
):
    begin.menu(course)  # a script
    assert capsys.readouterr().out == f"{begin.BY_HAND}\n"
    monkeypatch.setattr(begin, "live", lambda: True)
    monkeypatch.setattr(begin, "find_spec", lambda name: None)
    begin.menu(course)  # a kernel without ipywidgets
    assert capsys.readouterr().out == f"{begin.BY_HAND}\n"
    begin.menu(course / "work")  # installed without the course's folder
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    begin.menu(course)
    assert capsys.readouterr().out == 2 * f"{begin.ELSEWHERE}\n"


def test_the_cell_of_the_index_runs_where_the_package_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gdm_course.authoring.begin", None)
    exec(tables.MENU, {})
    assert capsys.readouterr().out.startswith("To begin an exercise, open it by its link")


@pytest.fixture
def student(tmp_path, monkeypatch):
    """The folder of a student who works on flows/maf, with its notebook running."""
    folder = tmp_path / "work" / "flows"
    folder.mkdir(parents=True)
    (folder / "maf.ipynb").write_text("{}")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(progress.noted, "__defaults__", (tmp_path,))
    return tmp_path


def test_a_question_that_turns_green_is_remembered_and_one_that_turns_red_forgotten(
    student,
):
    maf.knots(maf.knots.reference)
    maf.solve_bin(lambda *_: 0)
    assert progress.green(student, "flows/maf") == {"knots"}
    maf.knots(lambda *_: 0)
    assert progress.green(student, "flows/maf") == set()
    names = {path.name for path in (student / "work" / "flows").iterdir()}
    assert names == {"maf.ipynb", ".maf.json"}


def test_nothing_is_written_outside_of_a_students_copy(student, monkeypatch):
    realnvp.coupling_forward(realnvp.coupling_forward.reference)  # no copy of this one
    monkeypatch.chdir(student)
    maf.knots(maf.knots.reference)  # the solution, run elsewhere
    assert [p.name for p in student.rglob("*") if p.is_file()] == ["maf.ipynb"]


@pytest.mark.parametrize(
    "content", ["", "[1]", "{", "\udc80", '{"knots": "yes"}', "[" * 200_000]
)
def test_a_damaged_record_counts_as_none(student, content):
    path = progress.record(student, "flows/maf")
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert progress.green(student, "flows/maf") == set()
    maf.knots(maf.knots.reference)
    assert progress.green(student, "flows/maf") == {"knots"}


def test_a_check_never_fails_for_its_record(student, monkeypatch, capsys):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(progress.tempfile, "mkstemp", full)
        maf.knots(maf.knots.reference)
        patch.setattr(progress.Path, "cwd", full)  # the folder was deleted
        maf.knots(maf.knots.reference)
    assert capsys.readouterr().out.count("knots: right") == 2
    assert progress.green(student, "flows/maf") == set()


def test_the_site_shows_an_exercise_from_its_title_on(root):
    """The first line is for those who have opened the file itself."""
    path = root / "exercises" / "flows" / "maf.ipynb"
    run = Run(path, nbformat.read(path, as_version=4))
    assert "This is the original" in run.notebook.cells[0].source
    page = pages.page(run, "exercises/flows/maf.ipynb", load(root), True)
    assert page.cells[0].source.startswith("# ")
