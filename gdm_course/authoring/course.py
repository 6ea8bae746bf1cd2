"""The sequence of the course: course.toml, and what a unit's lecture says of itself."""

import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gdm_course.authoring.percent import AuthoringError, read

INDEX = "lectures/index.ipynb"
KINDS = ("lectures", "solutions", "exercises")
_KEYS = {"needs", "points"}
# Lectures that the rules of the hour do not hold for: not rewritten yet, or no lecture at
# all but the statement of an assignment that has none.


@dataclass(frozen=True)
class Places:
    """Where the five places of a unit are, relative to the checkout.

    Attributes:
        key: the unit's name, such as "flows/realnvp".
    """

    key: str

    @property
    def family(self) -> str:
        """The part before the slash."""
        return self.key.split("/")[0]

    @property
    def slug(self) -> str:
        """The part after the slash."""
        return self.key.split("/")[1]

    @property
    def checks(self) -> str:
        """The file of its questions."""
        return f"gdm_course/checks/{self.key}.py"

    def script(self, kind: str) -> str:
        """A script. `kind`: lectures or solutions."""
        return f"{kind}/{self.family}/src/{self.slug}.py"

    def notebook(self, kind: str) -> str:
        """A notebook. `kind`: lectures, solutions or exercises."""
        return f"{kind}/{self.key}.ipynb"


@dataclass(frozen=True)
class Unit(Places):
    """One unit: a line of course.toml, in the checkout `root`."""

    needs: tuple[str, ...]
    points: dict[str, float]
    root: Path
    sheet: bool = False  # anatomy "sheet": no core of an hour and further sections

    def has(self, kind: str) -> bool:
        """Whether its script is written; an exercise comes from the solution."""
        kind = "solutions" if kind == "exercises" else kind
        return (self.root / self.script(kind)).is_file()

    def text(self, kind: str) -> str:
        """The text of one of its scripts."""
        return (self.root / self.script(kind)).read_text(encoding="utf-8")

    @cached_property
    def heading(self) -> tuple[str, str]:
        """Title and summary: the first heading and the first paragraph of the lecture."""
        name = self.script("lectures")
        cells = read(self.text("lectures"), name).cells
        texts = [c.source for c in cells if c.kind == "markdown" and not c.generated]
        parts = re.split(r"\n\s*\n", "\n\n".join(texts).strip())
        if not parts[0].startswith("# "):
            raise AuthoringError(f"{name}: must start with a '# Title' cell")
        title, _, rest = parts[0].partition("\n")
        plain = [p for p in [rest, *parts[1:]] if p and not p.startswith("#")]
        summary = " ".join(plain[0].split()) if plain else ""
        return title.removeprefix("# ").strip(), summary


@dataclass(frozen=True)
class Course:
    """course.toml."""

    root: Path
    title: str
    subtitle: str
    repository: str
    branch: str
    families: dict[str, str]
    units: dict[str, Unit]

    def written(self) -> list[Unit]:
        """The units that have a lecture, in order."""
        return [unit for unit in self.units.values() if unit.has("lectures")]


def load(root: Path) -> Course:
    """Read course.toml of a checkout.

    Raises:
        AuthoringError: the file is no TOML, or a unit's line lacks or misspells something.
    """
    path = root / "gdm_course" / "course.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise AuthoringError(f"gdm_course/course.toml: {error}") from None
    units = {key: _unit(key, line, root) for key, line in table["units"].items()}
    for key, unit in units.items():
        if unit.family not in table["families"]:
            raise AuthoringError(f"course.toml: '{key}' has no family '{unit.family}'")
        if missing := [need for need in unit.needs if need not in units]:
            raise AuthoringError(
                f"course.toml: '{key}' needs {missing[0]}, which is no unit"
            )
    names = ("title", "subtitle", "repository", "branch", "families")
    return Course(root, *(table[name] for name in names), units)


def _unit(key: str, line: dict, root: Path) -> Unit:
    sheet = line.get("anatomy") == "sheet"
    keys = _KEYS | ({"anatomy"} if sheet else set())
    if not re.fullmatch(r"[a-z_0-9]+/[a-z_0-9]+", key) or {*line} != keys:
        raise AuthoringError(
            f"course.toml: unit '{key}' has {', '.join(line)}; expected a name "
            f"'family/unit' in small letters and exactly {', '.join(sorted(_KEYS))}, and "
            'anatomy = "sheet" or nothing'
        )
    return Unit(key, tuple(line["needs"]), dict(line["points"]), root, sheet)
