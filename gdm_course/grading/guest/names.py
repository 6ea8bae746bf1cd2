"""What a cell's source reads, sets and changes, statement by statement. Runs in the box.

A magic is read as what it runs: the body of %%time is Python of this notebook, that of
%%bash is not, and what %%timeit defines is gone when it ends. A string may be code.
"""

import ast
import dis
import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CodeType

from IPython.core.inputtransformer2 import TransformerManager

from gdm_course.grading.guest.strings import NO_PYTHON, mentioned

READS = {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
WRITES = {"STORE_NAME", "STORE_GLOBAL"}
AT_ONCE = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}
# Magics whose text is no Python of this notebook
FOREIGN = {"script", "bash", "sh", "python", "python2", "python3", "pypy", "perl", "ruby"}
FOREIGN |= {"html", "HTML", "svg", "SVG", "javascript", "js", "latex", "markdown"}
FILES = {"writefile", "file", "run", "cd"}  # later cells may import what they leave
FORGETFUL = {"timeit"}  # run Python, in a function of their own
WORD = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Step:
    """One statement of a cell.

    Attributes:
        sets: globals that it defines.
        now: globals that it reads at once.
        later: globals that are read when what it defines is called, and names in strings.
        changes: names whose objects it changes: `x.y = 1`, `x[0] = 1`, `x.append(1)`.
        declares: globals that a function which it defines sets when it is called.
        calls: functions that it calls, and does nothing else: `prepare()`.
        sure: it sets its names in any case, not only under some condition.
        kind: "import", "define", "file", or "" for all others.
        lost: names that it defines for itself only, inside of %%timeit.
    """

    source: str
    sets: frozenset[str] = frozenset()
    now: frozenset[str] = frozenset()
    later: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    declares: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()
    sure: bool = True
    kind: str = ""
    lost: frozenset[str] = frozenset()


def steps(source: str) -> list[Step] | None:
    """The statements of a cell, those under a cell magic too; None if it is no Python."""
    try:
        plain = TransformerManager().transform_cell(source)  # magics become calls
        return [step for node in ast.parse(plain).body for step in _steps(node)]
    except NO_PYTHON:
        return None


def needs(source: str, found: list[Step] | None) -> set[str]:
    """The globals that a cell reads before it sets them itself, in functions too."""
    if found is None:
        return {*WORD.findall(source)}
    reads, own = set(), set()
    for step in found:
        reads |= step.now - own
        own |= step.sets | step.declares if step.sure else set()
    later = together(s.later for s in found)
    return reads | later - together(s.sets | s.declares for s in found)


def together(sets: Iterable[frozenset[str]]) -> set[str]:
    """The union of many sets."""
    return set().union(*sets)


# One statement ----------------------------------------------------------------------------


def _steps(node: ast.stmt) -> list[Step]:
    name, text = _magic(node)
    if name in FILES:
        return [Step(ast.unparse(node), kind="file")]
    if not name or name in FOREIGN:
        return [] if name else [_step(node)]
    inner = steps(text) or []
    if name not in FORGETFUL:
        return inner
    reads = frozenset(needs(text, inner))
    lost = frozenset(together(step.sets for step in inner))
    return [Step(ast.unparse(node), now=reads, lost=lost)]


def _magic(node: ast.stmt) -> tuple[str, str]:
    """The name of a magic and the text that it runs; two empty strings without one."""
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        texts = [a.value for a in call.args if isinstance(a, ast.Constant)]
        if call.func.attr in ("run_cell_magic", "run_line_magic") and len(texts) > 1:
            return str(texts[0]), str(texts[-1])
    return "", ""


def _step(node: ast.stmt) -> Step:
    whole = ast.Module([node], [])
    code = compile(whole, "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
    sets, now, later, declares = _globals(code)
    kind = "import" if isinstance(node, ast.Import | ast.ImportFrom) else ""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        kind = "define"
    return Step(
        source=ast.unparse(node),
        sets=frozenset(sets),
        now=frozenset(now),
        later=frozenset(later | mentioned(node)),
        changes=frozenset(_changes(node)),
        declares=frozenset(declares - sets),
        calls=frozenset(_calls(node)),
        sure=not isinstance(node, ast.If | ast.While | ast.Try | ast.TryStar | ast.Match),
        kind=kind,
    )


def _globals(code: CodeType) -> tuple[set[str], ...]:
    """What code sets and reads; what functions in it read and, by `global`, set."""
    sets, now, later, declares = set(), set(), set(), set()
    for step in dis.get_instructions(code):
        if step.opname in READS and step.argval not in sets:
            now.add(step.argval)
        elif step.opname in WRITES:
            sets.add(step.argval)
    for inner in (c for c in code.co_consts if isinstance(c, CodeType)):
        _, first, second, third = _globals(inner)
        a_class = not inner.co_flags & inspect.CO_OPTIMIZED
        at_once = a_class or inner.co_name in AT_ONCE
        now |= first - sets if at_once else set()
        later |= second | (set() if at_once else first)
        steps = dis.get_instructions(inner)
        declares |= third | {s.argval for s in steps if s.opname == "STORE_GLOBAL"}
    return sets, now, later, declares


def _calls(node: ast.stmt) -> Iterator[str]:
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
        yield call.func.id


def _changes(node: ast.AST) -> Iterator[str]:
    """Names of objects that are changed, functions not looked into."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return
    if isinstance(node, ast.Attribute | ast.Subscript):
        if not isinstance(node.ctx, ast.Load):
            yield from _root(node)
    elif isinstance(node, ast.Expr) and isinstance(call := node.value, ast.Call):
        if isinstance(call.func, ast.Attribute):
            yield from _root(call.func)
        elif isinstance(call.func, ast.Name) and call.func.id in ("setattr", "delattr"):
            yield from _root(call.args[0])
    for child in ast.iter_child_nodes(node):
        yield from _changes(child)


def _root(node: ast.AST) -> Iterator[str]:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    if isinstance(node, ast.Name):
        yield node.id
