"""The menu in the index: to begin an exercise, or go on with it, without a terminal."""

import posixpath
import sys
from importlib.util import find_spec
from pathlib import Path

from gdm_course.authoring.course import Unit, load
from gdm_course.authoring.percent import AuthoringError
from gdm_course.authoring.start import start
from gdm_course.checks.progress import green
from gdm_course.console import say
from gdm_course.jupyter_display import live
from gdm_course.source import ROOT

BY_HAND = (
    "To begin an exercise, type 'gdm start FAMILY/UNIT' in a terminal: it makes your own "
    "copy in work/."
)
ELSEWHERE = (
    "Here is no folder for your copy of an exercise: open one by its link in the tables "
    "below and save it as your own."
)


def menu(root: Path = ROOT) -> None:
    """Show the exercises and a button that makes, or finds, the student's copy.

    Where nobody can press a button, one sentence says what to do instead.
    """
    if "google.colab" in sys.modules or not (root / "exercises").is_dir():
        return say(ELSEWHERE)
    if not live() or find_spec("ipywidgets") is None:
        return say(BY_HAND)
    import ipywidgets
    from IPython.display import Markdown, display

    names = [(label(root, unit), unit.key) for unit in offered(root)]
    choice = ipywidgets.Dropdown(options=names, layout={"width": "36em"})
    button = ipywidgets.Button(description="Begin, or go on", button_style="primary")
    display(ipywidgets.HBox([choice, button]))
    answer = display(Markdown(""), display_id=True)
    button.on_click(lambda _: answer.update(Markdown(begun(root, choice.value))))


def offered(root: Path) -> list[Unit]:
    """The units that have an exercise, in course order."""
    units = load(root).units.values()
    return [unit for unit in units if (root / unit.notebook("exercises")).is_file()]


def label(root: Path, unit: Unit) -> str:
    """A unit in the menu: its name and, once it is begun, how many questions were green."""
    copy = root / "work" / f"{unit.key}.ipynb"
    return f"{unit.key} ({score(root, unit)} green)" if copy.is_file() else unit.key


def score(root: Path, unit: Unit) -> str:
    """How many of a unit's questions were green when last checked: `2 of 6`."""
    return f"{len(green(root, unit.key) & {*unit.points})} of {len(unit.points)}"


def begun(root: Path, key: str, here: str = "lectures") -> str:
    """Make or find the student's copy of a unit's exercise.

    Args:
        root: the checkout.
        key: of the unit.
        here: the folder of the notebook that shows the link, in the checkout.

    Returns:
        A sentence in Markdown with a link to the copy, or what stood in the way.
    """
    try:
        copy, new = start(root, key)
    except AuthoringError as error:
        return str(error)
    page = copy.relative_to(root).as_posix()
    link = f"[{page}]({posixpath.relpath(page, here)})"
    if new:
        return f"{link} is yours: an update of the course never touches it."
    unit = load(root).units[key]
    return (
        f"{link} is as you left it: {score(root, unit)} questions green when last checked."
    )
