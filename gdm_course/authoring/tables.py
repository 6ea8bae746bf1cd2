"""What is made from course.toml: the index of the lectures and the tables of the README."""

import posixpath
import re

from gdm_course.authoring.course import Course, Unit
from gdm_course.authoring.fill import hour_of
from gdm_course.authoring.notebook import build
from gdm_course.authoring.percent import AuthoringError, Cell
from gdm_course.source import PACKAGE

MENU = """try:
    from gdm_course.authoring.begin import menu
except ImportError:
    print("To begin an exercise, open it by its link in the tables below.")
else:
    menu()"""


def index(course: Course) -> str:
    """The notebook that students open first."""
    cells = [Cell("markdown", f"# {course.title}\n\n{course.subtitle}.\n\n" + _how_to())]
    cells.append(Cell("code", MENU))
    for family, name in course.families.items():
        units = [unit for unit in course.written() if unit.family == family]
        if units:
            cells.append(
                Cell("markdown", f"## {name}\n\n{table(units, course, 'lectures')}")
            )
    return build([(cell, {}) for cell in cells], "lectures/index", "gdm_course/course.toml")


def table(units: list[Unit], course: Course, here: str) -> str:
    """A markdown table of units, with links relative to the folder `here`."""
    rows = ["| unit | what it is about | minutes | needs | open |", "|---|---|--:|---|---|"]
    for unit in units:
        title, summary = unit.heading
        kinds = [kind for kind in ("lectures", "exercises", "solutions") if unit.has(kind)]
        links = " · ".join(
            _link(unit, kind, here, kind.removesuffix("s")) for kind in kinds
        )
        known = [
            course.units[need] for need in unit.needs if course.units[need].has("lectures")
        ]
        needs = ", ".join(_link(need, "lectures", here, need.heading[0]) for need in known)
        name = _link(unit, "lectures", here, title)
        minutes = " + ".join(str(n) for n in _minutes(unit) if n)
        rows.append(f"| {name} | {_cell(summary)} | {minutes} | {needs or '–'} | {links} |")
    return "\n".join(rows)


def readme(text: str, course: Course) -> str:
    """The README with its generated blocks filled; blocks without markers are left out."""
    parts = []
    for family, name in course.families.items():
        if units := [unit for unit in course.written() if unit.family == family]:
            parts.append(f"**{name}**\n\n{table(units, course, '.')}")
    text = _block(text, "units", "\n\n".join(parts))
    figures = measured(course)
    return text if figures is None else _block(text, "measured", figures)


def lacking(text: str) -> list[str]:
    """The markers that a README should have and has not."""
    pairs = [(f"<!-- gdm:{n} -->", f"<!-- /gdm:{n} -->") for n in ("units", "measured")]
    return [f"{a} ... {b}" for a, b in pairs if not 0 <= text.find(a) < text.find(b)]


def measured(course: Course) -> str | None:
    """The table of trained models, from their cards; None where nobody can say."""
    if course.root.resolve() != PACKAGE.parent.resolve():
        return None  # the cards imported here are another checkout's
    try:
        from gdm_course.checkpoints.table import table

        return table()
    except (ImportError, AttributeError):
        return None


def _block(text: str, name: str, inside: str) -> str:
    begin, end = f"<!-- gdm:{name} -->", f"<!-- /gdm:{name} -->"
    pattern = re.escape(begin) + r".*?" + re.escape(end)
    return re.sub(pattern, lambda _: f"{begin}\n{inside}\n{end}", text, flags=re.DOTALL)


def _link(unit: Unit, kind: str, here: str, words: str) -> str:
    return f"[{words}]({posixpath.relpath(unit.notebook(kind), here)})"


def _minutes(unit: Unit) -> tuple[int, int]:
    """Of the core, and of all further sections."""
    hour = hour_of(unit)
    return hour.core.minutes, hour.further.minutes


def _cell(text: str) -> str:
    """A text that fits into one cell of a table."""
    if re.search(r"(?<!\\)\|", text) and "$" in text:
        raise AuthoringError(
            f"a lecture's first paragraph has | in a formula, write \\mid: '{text[:40]}'"
        )
    return text.replace("|", "\\|")


def _how_to() -> str:
    return (
        "Read the units from top to bottom, or follow what each one needs. Open a lecture "
        "and run it cell by cell. Minutes are counted from the text; those after a + are "
        "for further sections, which nothing else needs.\n\n"
        "**Exercises.** Run the next cell (click on it, then Shift+Enter), choose a unit "
        "and press the button. It makes your own copy under `work/`, which an update of "
        "the course never touches, and links to it. `gdm start FAMILY/UNIT` in a terminal "
        "does the same."
    )
