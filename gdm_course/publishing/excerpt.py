"""Code as a slide can show it: docstrings of one line, long definitions in pages."""

import ast

from gdm_course.source import lines

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def defines(source: str) -> bool:
    """Whether a cell consists of definitions and nothing else."""
    tree = parsed(source)
    return tree is not None and bool(tree.body) and all(map(_defines, tree.body))


def _defines(node: ast.stmt) -> bool:
    return isinstance(node, Definition)


def parsed(source: str) -> ast.Module | None:
    """The syntax tree; None for what is no Python, such as a magic."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def brief(source: str) -> str:
    """Cut every docstring to its first line."""
    rows, tree = lines(source.strip("\n")), parsed(source.strip("\n"))
    if tree is None:
        return source
    texts = [
        node.body[0]
        for node in ast.walk(tree)
        if isinstance(node, Definition) and ast.get_docstring(node)
    ]
    for text in sorted(texts, key=lambda node: -node.lineno):
        if text.end_lineno > text.lineno:
            first = rows[text.lineno - 1].rstrip()
            quotes = "'''" if first.lstrip(" rRuU").startswith("'''") else '"""'
            rows[text.lineno - 1 : text.end_lineno] = [first + quotes]
    return "\n".join(rows)


def pages(source: str, room: int, first: int | None = None) -> list[str]:
    """Split code over slides of at most `room` lines, at empty lines where there are any.

    Args:
        source: the code.
        room: lines on a slide.
        first: lines on the first slide, if it has less room.
    """
    rest, made = lines(source.strip("\n")), []
    limit = room if first is None else first
    while len(rest) > limit:
        at = _break(rest, limit)
        made.append("\n".join(rest[:at]).rstrip())
        rest, limit = rest[at:], room
        while rest and not rest[0].strip():
            rest = rest[1:]
    return [*made, "\n".join(rest)]


def _break(rows: list[str], limit: int) -> int:
    """Where the next page begins: at the last empty line, else at the least indented."""
    empty = [i for i in range(limit // 3, limit + 1) if not rows[i].strip()]
    if empty:
        return empty[-1]
    begins = [i for i in range(limit // 2, limit + 1) if rows[i].lstrip()[0] not in ")]}"]
    depth = {i: len(rows[i]) - len(rows[i].lstrip()) for i in begins}
    return max(begins, key=lambda i: (-depth[i], i), default=limit)
