"""Which names some cells bind, and which they need from outside, by their syntax trees."""

import ast
import symtable
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gdm_course.authoring.percent import Cell
from gdm_course.source import lines

AT_ONCE = {"listcomp", "setcomp", "dictcomp", "genexpr"}  # functions that are run in place


@dataclass
class Names:
    """Names with the line of the script where each of them stands first.

    Attributes:
        bound: assigned, defined or imported at the top level.
        needed: read there, or in a function, and not bound by these cells before it is run.
        made: those of `bound` that are not just an import or a quotation of the package.
    """

    bound: dict[str, int] = field(default_factory=dict)
    needed: dict[str, int] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)


def names(cells: Iterable[Cell]) -> Names:
    """The names of some cells that run one after the other; text does not count."""
    found, later = Names(), {}
    for cell in cells:
        if cell.kind != "code" or "setup" in cell.tags:
            continue
        for statement in parse(cell.source).body:
            _add(statement, cell, found, later)
    for name, line in later.items():  # functions are called when everything is bound
        if name not in found.bound:
            found.needed.setdefault(name, line)
    return found


def parse(source: str, place: str = "a cell") -> ast.Module:
    """The syntax tree of a cell without its magics; an empty one if it is no Python."""
    plain = [("pass" if ln.lstrip()[:1] in ("%", "!") else ln) for ln in lines(source)]
    try:
        return ast.parse("\n".join(plain), place)
    except SyntaxError:
        return ast.Module([], [])


def imported(cells: Iterable[Cell]) -> dict[str, int]:
    """What cells import from the package ("flows.glow.mix"), with lines of the script."""
    found: dict[str, int] = {}
    for cell in cells:
        tree = parse(cell.source) if cell.kind == "code" else ast.Module([], [])
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = node.module.removeprefix("gdm_course.")
                for alias in node.names:
                    found.setdefault(f"{module}.{alias.name}", cell.line + node.lineno)
    return found


def _add(statement: ast.stmt, cell: Cell, found: Names, later: dict[str, int]) -> None:
    """Take one statement of a cell into account."""
    top = symtable.symtable(ast.unparse(statement), "a cell", "exec")
    bound = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    own = bound if hasattr(statement, "body") else set()  # a loop binds what it then reads
    changed = bound if isinstance(statement, ast.AugAssign) else set()  # x += 1 reads x
    for name, now in [*((name, True) for name in changed), *_reads(top, True)]:
        known = name in found.bound or name in own or name == "_"
        if not known:
            goal = found.needed if now else later
            goal.setdefault(name, cell.line + _first(statement, name))
    for name in bound - {"_"}:
        found.bound.setdefault(name, cell.line + statement.lineno)
        if cell.quoted is None and not isinstance(statement, ast.Import | ast.ImportFrom):
            found.made.add(name)


def _reads(table: symtable.SymbolTable, now: bool) -> Iterator[tuple[str, bool]]:
    """Global names that a scope reads, and whether at once or when it is called."""
    top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (top or symbol.is_global()):
            yield symbol.get_name(), now
    for child in table.get_children():
        in_place = child.get_type() == "class" or child.get_name().strip("<>") in AT_ONCE
        yield from _reads(child, now and in_place)


def _first(statement: ast.stmt, name: str) -> int:
    """The first line of a statement with a name."""
    nodes = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
    rows = [node.lineno for node in nodes if node.id == name]
    return min(rows, default=statement.lineno)
