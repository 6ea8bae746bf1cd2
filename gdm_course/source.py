"""Find a definition's source text by its dotted name, without importing it or torch."""

import ast
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parent
ROOT = PACKAGE.parent  # the checkout, when the package is installed with `pip install -e`


@dataclass(frozen=True)
class Definition:
    """One top-level function, class or assignment of the package."""

    name: str  # "autoregressive.nade.NADE"
    path: Path
    source: str  # exactly as in the file, decorators included, no trailing newline
    line: int
    node: ast.stmt

    @property
    def length(self) -> int:
        """Lines of source."""
        return self.source.count("\n") + 1


def lines(text: str) -> list[str]:
    """Return the lines of a text, which end at newlines alone, as Python's own do.

    `str.splitlines` would also cut at a form feed or at U+2028, which are text.
    """
    return text.removesuffix("\n").split("\n") if text else []


def unix(text: str) -> str:
    """Return a text with other systems' line ends made newlines, as when reading a file."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def definitions(path: Path, package: Path = PACKAGE) -> dict[str, Definition]:
    """Return every top-level definition of a source file, by its short name, in order."""
    return _parse(path, path.read_text(encoding="utf-8"), package)


def definition(dotted: str, package: Path = PACKAGE) -> Definition:
    """Look up `family.module.Name`, relative to the package, and return its definition.

    Raises:
        LookupError: there is no such module, or it does not define the name.
    """
    module, _, name = dotted.rpartition(".")
    base = package.joinpath(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    if not module or not path.is_file():
        raise LookupError(
            f"no module gdm_course/{module.replace('.', '/')}.py for '{dotted}'"
        )
    if name not in (known := definitions(path, package)):
        raise LookupError(
            f"gdm_course.{module} defines no '{name}'; it has {', '.join(known)}"
        )
    return known[name]


@lru_cache(maxsize=256)  # the text is part of the key: an edited file is read anew
def _parse(path: Path, text: str, package: Path) -> dict[str, Definition]:
    rows = lines(text)
    parts = path.relative_to(package).with_suffix("").parts
    module = ".".join(part for part in parts if part != "__init__")
    found = {}
    for node in ast.parse(text).body:
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(d.lineno for d in decorators)])
        source = "\n".join(rows[first - 1 : node.end_lineno])
        for name in _names(node):
            found[name] = Definition(f"{module}.{name}", path, source, first, node)
    return found


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [t.id for t in node.targets if isinstance(t, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []
