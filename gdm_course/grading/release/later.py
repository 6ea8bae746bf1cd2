"""What a student's copy of the course has in place of checks and of the answers.

`gdm release` copies this file to gdm_course/checks/later.py. It holds no answer and needs
no network: it says whether an answer runs, and of which shape its results are.
"""

from pathlib import Path
from typing import Any

from gdm_course.chance import own_chance
from gdm_course.console import say
from gdm_course.grading.guest.standin import Ignore, absent

AFTER = "graded after you hand in"


class Withheld(RuntimeError):
    """The course's own version is left out of this copy."""

    def _render_traceback_(self) -> list[str]:
        return [f"\x1b[2m{self}\x1b[0m"]  # IPython: one line instead of a traceback


def left_out(module: str, name: str) -> type:
    """A class that can be imported under any name and says, when used, why it is empty."""
    sentence = f"{module}.{name} is left out of this copy until the exercise is handed in"

    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        raise Withheld(sentence)

    return type(name, (absent(module, name),), {"__init__": refuse})


class Later(Ignore):
    """`check.NAME` in a student's copy: `check.NAME(answer)` tries the answer, once.

    Args:
        name: of the question.
        asks: pairs of a call, as the course's check would make it, and the shapes of what
            comes back.
    """

    def __init__(self, name: str, asks: list[tuple[Any, list[tuple]]]):
        self._name, self._asks = name, asks

    def __call__(self, student: Any, *args: Any, **kwargs: Any) -> "Later":
        """Print one line: what is plainly wrong, or that marks come later."""
        wrong = _wrong(student, self._asks)
        colour, mark = ("31", "✘") if wrong else ("36", "•")
        tried = f"it runs, shapes are right; {AFTER}" if self._asks else AFTER
        say(f"\x1b[{colour}m{mark} {self._name}: {wrong or tried}\x1b[0m")
        return self

    @property
    def reference(self) -> Any:
        """The course's own answer.

        Raises:
            Withheld: always.
        """
        raise Withheld(f"the course's own {self._name} comes after you hand in")


@own_chance()  # the student's generators stay where they are
def _wrong(student: Any, asks: list[tuple[Any, list[tuple]]]) -> str:
    """What is plainly wrong with an answer, "" if nothing is."""
    from gdm_course.checks.ask import Unfit, fitted, run

    for ask, shapes in asks:
        try:
            answer = fitted(run(ask, student), shapes)
        except NotImplementedError:
            return "not answered yet"
        except Unfit as error:
            return str(error)
        except Exception as error:
            return f"it raises {type(error).__name__}: {error}"
        given = [tuple(part.shape) for part in answer]
        if given != shapes:
            return f"it returns arrays of shapes {given}, expected {shapes}"
    return ""


def question(unit: str, name: str) -> Later:
    """The stand-in of one question; `unit` is "family/unit"."""
    if name.startswith("__"):
        raise AttributeError(name)
    return Later(name, _asks(unit, name))


def _asks(unit: str, name: str) -> list[tuple[Any, list[tuple]]]:
    from gdm_course.grading.guest.packing import unpack_ask
    from gdm_course.grading.guest.wire import decode

    path, found, at = Path(__file__).parent / f"{unit}.asks", [], 0
    data = path.read_bytes() if path.is_file() else b""
    while at < len(data):
        end = at + 8 + int.from_bytes(data[at : at + 8], "little")
        message, arrays = decode(data[at + 8 : end])
        if message["name"] == name:
            ask = unpack_ask(message["ask"], arrays)
            found.append((ask, [tuple(shape) for shape in message["shapes"]]))
        at = end
    return found
