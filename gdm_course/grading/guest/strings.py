"""Names in strings that may be code: `eval("math.log(2)")`. Runs in the box."""

import ast
import re
from collections.abc import Iterator

NO_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)
# in a text that is no Python by itself, such as "f({})": what looks like code
CODE = re.compile(r"(?:(?<=\{)|(?<=\$))[^\W\d]\w*|[^\W\d]\w*(?=[(\[]|\.[^\W\d])")
LONG = 100_000  # characters; longer strings are data


def mentioned(node: ast.AST) -> set[str]:
    """Names in strings that may be code, docstrings excepted."""
    found = set()
    for text in _strings(node):
        try:
            tree = ast.parse(text.strip())
        except NO_PYTHON:
            found |= {*CODE.findall(text)}
            continue
        found |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        found |= mentioned(tree)
    return found


def _strings(node: ast.AST) -> Iterator[str]:
    """Strings of this syntax tree; the values in an f-string become `_`."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    children = [*ast.iter_child_nodes(node)]
    if isinstance(node, ast.JoinedStr):
        yield "".join(
            getattr(part, "value", "") if _text(part) else "_" for part in children
        )
        children = [part for part in children if not _text(part)]
    elif _text(node) and len(node.value) < LONG:
        yield node.value
    for child in children:
        yield from _strings(child)


def _text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
