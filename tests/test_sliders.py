"""A slider that is moved after "Run All" still finds the names its drawing reads.

A later cell that binds one of them anew, such as `x = ...`, would break it without a word.
"""

import ast
import symtable

import pytest

from gdm_course.source import ROOT

QUOTE = '# %% tags=["from:'
SOURCES = sorted(ROOT.glob("lectures/*/src/*.py"))


def globals_read(table: symtable.SymbolTable) -> set[str]:
    """Names that a function, or what is defined inside it, looks up in the notebook."""
    own = {s.get_name() for s in table.get_symbols() if s.is_global()}
    return own.union(*map(globals_read, table.get_children()))


def bindings(tree: ast.Module, quoted: set[int]) -> dict[str, list[int]]:
    """Lines of top-level code, not of bodies of functions, that bind each name.

    Not those that quote the package: there a name stays what it was.
    """
    found: dict[str, list[int]] = {}
    for node in tree.body:
        if node.lineno in quoted:
            continue
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.setdefault(node.name, []).append(node.lineno)
            continue
        for name in ast.walk(node):
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                found.setdefault(name.id, []).append(name.lineno)
    return found


def drawings(tree: ast.Module) -> list[tuple[int, str]]:
    """The line and the function of each `play(draw, ...)`."""
    calls = [n.value for n in tree.body if isinstance(n, ast.Expr)]
    return [
        (call.lineno, call.args[0].id)
        for call in calls
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "play"
    ]


def rebound(text: str) -> list[str]:
    """Names that a drawing reads and a later cell binds anew, with both lines."""
    tree, found = ast.parse(text), []
    heads = enumerate(text.splitlines(), 2)  # the line after a cell's first
    bound = bindings(tree, {at for at, head in heads if head.startswith(QUOTE)})
    functions = [*symtable.symtable(text, "lecture", "exec").get_children()]
    for line, draw in drawings(tree):
        todo, seen = [draw], set()
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                named = [f for f in functions if f.get_name() == name]
                before = [f for f in named if f.get_lineno() < line]
                todo += set().union(*map(globals_read, before[-1:]))
        for name in sorted(seen):
            if later := [at for at in bound.get(name, []) if at > line]:
                found.append(f"line {line}: {draw} reads {name}, bound anew in {later[0]}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: f"{p.parent.parent.name}/{p.stem}")
def test_no_later_cell_takes_a_name_from_a_slider(path):
    assert rebound(path.read_text(encoding="utf-8")) == []


def test_the_rule_would_notice():
    text = """
x, y = 1, 2
def inner(z): return z + x
def draw(t):
    y = t
    return inner(t) + y + [x for x in (1, 2)][0]
play(draw, t=(0, 1))
y = 3
"""
    quote = '# %% tags=["from:family.unit.inner"]\ndef inner(z): return z + x\n'
    assert rebound(text) == rebound(text + quote) == []
    assert len(rebound(text + quote.partition("\n")[2])) == 1
    assert rebound(text + "x = 4") == ["line 7: draw reads x, bound anew in 9"]
    assert len(rebound(text + "def inner(z): pass")) == 1
