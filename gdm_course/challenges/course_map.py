"""A map of the course from two sources that nobody draws: `course.toml`, and the imports.

`course.toml` says which unit needs which. The modules of a family say, by what they import,
which other family's code they are built on.
"""

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parent.parent


@dataclass(frozen=True)
class CourseMap:
    """Families in the course's order, units, and who builds on whom.

    Attributes:
        titles: of families by slug.
        units: slug -> the units that it needs.
        loans: (borrower, lender) -> modules "family.module" whose code is imported.
    """

    titles: dict[str, str]
    units: dict[str, tuple[str, ...]]
    loans: dict[tuple[str, str], tuple[str, ...]]

    def depth(self) -> dict[str, int]:
        """How many units lie before each one, on the longest way: 0 for the first."""
        found: dict[str, int] = {}
        while len(found) < len(self.units):
            ready = [
                u for u, n in self.units.items() if u not in found and {*n} <= {*found}
            ]
            if not ready:
                rest = ", ".join(sorted({*self.units} - {*found}))
                raise ValueError(f"units need each other in a circle, somewhere in: {rest}")
            found |= {
                u: 1 + max((found[n] for n in self.units[u]), default=-1) for u in ready
            }
        return found


def read(package: Path = PACKAGE) -> CourseMap:
    """Read `course.toml` and every import between the families of the package."""
    told = tomllib.loads((package / "course.toml").read_text(encoding="utf-8"))
    titles = told["families"]
    units = {unit: tuple(line["needs"]) for unit, line in told["units"].items()}
    loans: dict[tuple[str, str], set[str]] = {}
    for family in titles:
        for path in sorted((package / family).glob("*.py")):
            if path.stem != "__init__":
                for module in imported(path, {*titles} - {family}):
                    lender = module.split(".")[0]
                    loans.setdefault((family, lender), set()).add(module)
    return CourseMap(titles, units, {pair: tuple(sorted(m)) for pair, m in loans.items()})


def imported(path: Path, families: set[str]) -> Iterator[str]:
    """Find the modules "family.module" that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "gdm_course."
        ):
            parts = node.module.split(".")[1:]
            names = [alias.name for alias in node.names] if len(parts) == 1 else [parts[1]]
            if parts[0] in families:
                yield from (f"{parts[0]}.{name}" for name in names)
