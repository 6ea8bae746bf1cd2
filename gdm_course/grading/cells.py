"""Which cells of a notebook have to run before its answers can be asked. Runs in the box.

Everything that the student wrote runs. Of the exercise's own cells, unchanged, only what
that needs: imports by name, and cells that define a global which something that runs reads.
The figures and trainings around an answer would cost minutes and decide nothing.
"""

import ast
import dis
import re
from collections.abc import Iterator
from types import CodeType

from IPython.core.inputtransformer2 import TransformerManager

WORD = re.compile(r"[^\W\d]\w*")
READS, WRITES = {"LOAD_NAME", "LOAD_GLOBAL"}, {"STORE_NAME", "STORE_GLOBAL"}


def plan(cells: list[dict], names: list[str]) -> list[str]:
    """The sources to run, in order.

    Args:
        cells: each with `source`, and `known` if it is the exercise's own, unchanged.
        names: of the objects that will be asked.
    """
    needed = set(names)
    for cell in cells:
        if not cell["known"]:
            needed |= _needs(cell["source"])
    kept = []
    for cell in reversed(cells):
        source = _part(cell["source"], needed) if cell["known"] else cell["source"]
        if cell["known"]:
            needed |= _needs(source)
        kept.append(source)
    return [source for source in reversed(kept) if source.strip()]


def _needs(source: str) -> set[str]:
    """The globals that a cell reads and does not itself define, in functions too."""
    try:
        plain = TransformerManager().transform_cell(source)  # magics become calls
        code = compile(plain, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {*WORD.findall(source)}
    steps = [step for part in _all(code) for step in dis.get_instructions(part)]
    used = [(step.opname, step.argval) for step in steps]
    own = {name for action, name in used if action in WRITES}
    return {name for action, name in used if action in READS} - own


def _all(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all(constant)


def _part(source: str, needed: set[str]) -> str:
    """Imports of needed names, and all the rest if it defines a needed name."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):  # magics: leave the cell as it is
        return source
    imports = [n for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
    rest = [n for n in body if n not in imports]
    kept = rest if _defined(rest) & needed else []
    wanted = needed | _needs("\n".join(map(ast.unparse, kept)))
    for node in imports:
        node.names = [a for a in node.names if _bound(a) in wanted or a.name == "*"]
    return "\n".join(ast.unparse(n) for n in [i for i in imports if i.names] + kept)


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.split(".")[0]


def _defined(body: list[ast.stmt]) -> set[str]:
    """The globals that these statements define."""
    found = set()
    for node in (n for statement in body for n in _outside_functions(statement)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        for child in ast.iter_child_nodes(node):
            yield from _outside_functions(child)
