"""Which cells of a notebook have to run before its answers can be asked. Runs in the box.

Everything that the student wrote runs. Of the exercise's own cells, unchanged, only what
that needs: imports by name, and cells that define a name which occurs in what runs. The
figures and trainings around an answer would cost minutes and decide nothing.
"""

import ast
import re

WORD = re.compile(r"[^\W\d]\w*")


def plan(cells: list[dict], names: list[str]) -> list[str]:
    """The sources to run, in order.

    Args:
        cells: each with `source`, and `known` if it is the exercise's own, unchanged.
        names: of the objects that will be asked.
    """
    needed = set(names)
    for cell in cells:
        if not cell["known"]:
            needed |= {*WORD.findall(cell["source"])}
    kept = []
    for cell in reversed(cells):
        if cell["known"]:
            source = _part(cell["source"], needed)
            needed |= {*WORD.findall(source)}
            kept.append(source)
        else:
            kept.append(cell["source"])
    return [source for source in reversed(kept) if source.strip()]


def _part(source: str, needed: set[str]) -> str:
    """Imports of needed names, and all the rest if it defines a needed name."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):  # magics: leave the cell as it is
        return source
    imports = [n for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
    rest = [n for n in body if n not in imports]
    kept = rest if _defined(rest) & needed else []
    wanted = needed | {*WORD.findall("\n".join(map(ast.unparse, kept)))}
    for node in imports:
        node.names = [a for a in node.names if _bound(a) in wanted or a.name == "*"]
    return "\n".join(ast.unparse(n) for n in [i for i in imports if i.names] + kept)


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.split(".")[0]


def _defined(body: list[ast.stmt]) -> set[str]:
    """Names that these statements bind, at any depth: too many do no harm."""
    found = set()
    for node in (n for statement in body for n in ast.walk(statement)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found
