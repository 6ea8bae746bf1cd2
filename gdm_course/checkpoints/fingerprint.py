"""What a model computes, as one hash per definition: read from the source, never run.

A checkpoint belongs to the code it was trained with. That code is the model's class and,
transitively, every definition of a family or of the rooms below that it mentions. Its
figures belong to the code that measured them: metrics, and the data that they are taken on.
Comments, layout, docstrings, type hints and the wording of errors do not count, and the
hash is the same on every version of Python.
"""

import ast
import contextlib
import hashlib
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from gdm_course import source

OF_MODELS = {"nets", "divergences", "learning", "validate"}  # beside the families
OF_FIGURES = {"evaluation", "scale", "data", "divergences", "batching", "chance"}
OF_FIGURES |= {"learning", "validate"}
# What brings files here: their checksums are known, so it decides no figure.
PLUMBING = {"data.download", "data.registry", "data.stream", "data.transfer"}
IGNORED = {"annotation", "returns", "type_params", "type_comment", "ctx", "kind"}


def fingerprint(dotted: str, package: Path = source.PACKAGE) -> dict[str, str]:
    """Hash the definition of a model and all those of ours that it uses.

    Args:
        dotted: path below `gdm_course`, such as "autoregressive.made.MADE".
        package: the folder of the package.

    Returns:
        Twelve hexadecimal digits for every definition reached, by dotted path, sorted.
    """
    course = tomllib.loads((package / "course.toml").read_text(encoding="utf-8"))
    return _reached([dotted], {*course["families"], *OF_MODELS}, package)


def measure(settings: dict[str, Any], package: Path = source.PACKAGE) -> dict[str, str]:
    """Hash what measures the figures of a recipe: its metrics and its data.

    Args:
        settings: as a card has them.
        package: the folder of the package.
    """
    start = ["scale.finish.figures", settings["data"]]
    start += [metric["function"] for metric in settings["metrics"]]
    start += [a for a in settings["data_args"] if _is_defined(a, package)]
    return _reached(start, OF_FIGURES, package)


def _is_defined(name: object, package: Path) -> bool:
    """Whether an argument is the dotted path of a definition, which makes the data."""
    with contextlib.suppress(LookupError):
        return isinstance(name, str) and bool(source.definition(name, package))
    return False


def _reached(start: list[str], rooms: set[str], package: Path) -> dict[str, str]:
    found, waiting = {}, [*start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = definition = source.definition(name, package)
            waiting.extend(_references(definition, rooms, package))
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


def _references(
    definition: source.Definition, rooms: set[str], package: Path
) -> Iterator[str]:
    """Yield the dotted paths of our definitions that this one mentions."""
    module = definition.name.rpartition(".")[0]
    imported = _imports(definition.path.read_text(encoding="utf-8"), module)
    local = source.definitions(definition.path, package)
    for chain in _chains(definition.node):
        head, *rest = chain.split(".")
        if head in imported:
            yield from _defined(".".join([imported[head], *rest]), rooms, package)
        elif head in local:
            yield f"{module}.{head}"


def _chains(node: ast.AST) -> Iterator[str]:
    """Yield every name in the tree with its attributes: "x", "nets.mlp"."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name | ast.Attribute):
            text = ast.unparse(part)
            if all(word.isidentifier() for word in text.split(".")):
                yield text


@lru_cache(maxsize=256)  # by the text: an edited file is read anew
def _imports(text: str, module: str) -> dict[str, str]:
    """Map the names that a file imports from us to their paths below `gdm_course`."""
    names = {"gdm_course": "gdm_course"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            parents = ["gdm_course", *module.split(".")]
            base = parents[: len(parents) - node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names |= {a.asname or a.name: f"{origin}.{a.name}" for a in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.asname: a.name for a in node.names if a.asname}
    return {k: v for k, v in names.items() if v.split(".")[0] == "gdm_course"}


def _defined(path: str, rooms: set[str], package: Path) -> Iterator[str]:
    """Yield the definition that an absolute dotted path leads to, if its room counts."""
    parts = path.split(".")[1:]
    if not parts or parts[0] not in rooms or ".".join(parts[:2]) in PLUMBING:
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
