"""What a model computes, as one hash per definition: read from the source, never run.

A checkpoint belongs to the code it was trained with. That code is the model's class and,
transitively, every definition of a family or of `nets` that it mentions. Comments, layout,
docstrings, type hints and the wording of errors do not count, and the hash is the same on
every version of Python.
"""

import ast
import hashlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

from gdm_course import source

IGNORED = {"annotation", "returns", "type_params", "type_comment", "ctx", "kind"}


def fingerprint(dotted: str, package: Path = source.PACKAGE) -> dict[str, str]:
    """Hash a definition and all those of ours that it uses.

    Args:
        dotted: path below `gdm_course`, such as "autoregressive.made.MADE".
        package: the folder of the package.

    Returns:
        Twelve hexadecimal digits for every definition reached, by dotted path, sorted.
    """
    found, waiting = {}, [dotted]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = definition = source.definition(name, package)
            waiting.extend(_references(definition, package))
    return {name: _digest(found[name].node) for name in sorted(found)}


def changes(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Name the definitions that differ between two fingerprints, or are only in one."""
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


def _digest(node: ast.AST) -> str:
    return hashlib.sha256(canonical(node).encode()).hexdigest()[:12]


def canonical(value: object) -> str:
    """Write a syntax tree as text, without what changes nothing that is computed."""
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if not isinstance(value, ast.AST):
        return repr(value)
    if isinstance(value, ast.Raise):
        return "Raise"
    fields = [(k, v) for k, v in ast.iter_fields(value) if k not in IGNORED]
    if ast.get_docstring(value) if hasattr(value, "decorator_list") else None:
        fields = [(k, v[1:] if k == "body" else v) for k, v in fields]
    kept = (f"{k}={canonical(v)}" for k, v in fields if v is not None and v != [])
    return f"{type(value).__name__}({','.join(kept)})"


def _references(definition: source.Definition, package: Path) -> Iterator[str]:
    """Yield the dotted paths of our definitions that this one mentions."""
    module = definition.name.rpartition(".")[0]
    imported = _imports(definition.path, module)
    local = source.definitions(definition.path, package)
    for chain in _chains(definition.node):
        head, *rest = chain.split(".")
        if head in imported:
            yield from _defined(".".join([imported[head], *rest]), package)
        elif head in local:
            yield f"{module}.{head}"


def _chains(node: ast.AST) -> Iterator[str]:
    """Yield every name in the tree with its attributes: "x", "nets.mlp"."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name | ast.Attribute):
            text = ast.unparse(part)
            if all(word.isidentifier() for word in text.split(".")):
                yield text


def _imports(path: Path, module: str) -> dict[str, str]:
    """Map the names that a file imports from us to their paths below `gdm_course`."""
    names = {"gdm_course": "gdm_course"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            parents = ["gdm_course", *module.split(".")]
            base = parents[: len(parents) - node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names |= {a.asname or a.name: f"{origin}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.asname: a.name for a in node.names if a.asname}
    return {k: v for k, v in names.items() if v.split(".")[0] == "gdm_course"}


def _defined(path: str, package: Path) -> Iterator[str]:
    """Yield the definition that an absolute dotted path leads to, if its room counts."""
    parts = path.split(".")[1:]
    if not parts or parts[0] not in _rooms(package):
        return
    for end in range(2, len(parts) + 1):
        try:
            yield source.definition(".".join(parts[:end]), package).name
            return
        except LookupError:
            continue  # a folder or a file so far
    room = package.joinpath(*parts)
    if not (room.is_dir() or room.with_suffix(".py").is_file()):
        raise LookupError(f"cannot find where {path} is defined: import it from its module")


def _rooms(package: Path) -> set[str]:
    """The rooms whose code a model depends on: the families, `nets`, `divergences`."""
    course = tomllib.loads((package / "course.toml").read_text(encoding="utf-8"))
    return {*course["families"], "nets", "divergences"}
