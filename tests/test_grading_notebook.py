"""The strict reader: code cells, or `Rejected`; never another error, never much memory."""

import json
import os
import random
import resource

import pytest

from gdm_course.grading.judge.notebook import MIB, Cell, Rejected, load, read
from gdm_course.source import ROOT

EXERCISE = ROOT / "exercises" / "foundations" / "densities.ipynb"
CODE = {"cell_type": "code", "metadata": {}, "source": "x = 1", "outputs": []}


def notebook(*cells: dict, **top) -> bytes:
    whole = {"cells": [*cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps({**whole, **top}).encode()


def test_cells_come_with_identity_and_tags():
    metadata = {"nbgrader": {"grade_id": "kl"}, "tags": ["train", 3]}
    lines = {**CODE, "metadata": metadata, "source": ["a = 1\r\n", "b = 2"]}
    text = {"cell_type": "markdown", "source": "# x"}
    assert read(notebook(CODE, text, lines)).cells == (
        Cell("x = 1"),
        Cell("a = 1\nb = 2", "kl", ("train",)),
    )


def test_the_exercise_itself_is_read():
    found = read(EXERCISE.read_bytes())
    whole = json.loads(EXERCISE.read_text())["cells"]
    assert len(found.cells) == sum(cell["cell_type"] == "code" for cell in whole)
    assert found.claims == "solutions/foundations/src/densities.py"
    assert "kl_gaussian" in {cell.grade_id for cell in found.cells}


@pytest.mark.parametrize(
    "data",
    [
        notebook({**CODE, "source": "a = 1 # \x00 \u202e"}),
        notebook({**CODE, "source": "a = 1 # \ud800"}),
        notebook(CODE, metadata={"kernelspec": {"name": "julia"}, "colab": [1, None]}),
        notebook({**CODE, "metadata": None}),
        notebook({**CODE, "metadata": {"nbgrader": 7, "tags": "x"}}),
        b"\xef\xbb\xbf" + notebook(CODE),
        notebook({**CODE, "source": "a = '" + "x" * 5 * MIB + "'"}),
    ],
    ids=["NUL", "surrogate", "kernel", "no metadata", "odd", "BOM", "5 MB line"],
)
def test_honest_oddities_are_read(data):
    (cell,) = read(data).cells
    compile(cell.source, "cell", "exec")


REJECTED = {
    "empty": b"",
    "spaces": b"  \n",
    "not JSON": b"hello",
    "zip": b"PK\x03\x04rest",
    "UTF-16": notebook(CODE).decode().encode("utf-16"),
    "list": b"[]",
    "null": b"null",
    "number": b"4",
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "closed nesting": b"[" * 100_000 + b"]" * 100_000,
    "5,000 digits": b'{"cells": [], "nbformat": ' + b"4" * 5000 + b"}",
    "nbformat 3": notebook(nbformat=3),
    "nbformat 99": notebook(nbformat=99),
    "nbformat text": notebook(nbformat="4"),
    "nbformat true": notebook(nbformat=True),
    "no cells": json.dumps({"nbformat": 4, "metadata": {}}).encode(),
    "cells object": notebook(**{"cells": {}}),
    "cell text": b'{"cells": ["x"], "nbformat": 4}',
    "source number": notebook({**CODE, "source": 3}),
    "source of numbers": notebook({**CODE, "source": ["a", 3]}),
    "type number": notebook({**CODE, "cell_type": 3}),
    "too many cells": notebook(*[CODE] * 2001),
    "too much code": notebook({**CODE, "source": "x" * 7 * MIB}),
    "too large": b" " * (16 * MIB + 1),
    "many lists": b'{"x": [' + b"[]," * 5_000_000 + b"[]]}",
    "a string without end": b'{"cells":"' + b'\\"' * 8_000_000,
    "a string that ends in a backslash": b'{"cells":"a\\',
    "nothing but quotes": b'"' * (16 * MIB),
    "nothing but ends": b"]" * (16 * MIB),
    "many numbers": b'{"x": [' + b"1," * 5_000_000 + b"1]}",
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_is_no_notebook_is_rejected(name):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Rejected):
        read(REJECTED[name])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize("version", [3, 99])
def test_an_old_format_gets_advice(version):
    with pytest.raises(Rejected, match=f"format {version}.*JupyterLab"):
        read(notebook(nbformat=version))


def test_only_regular_files_are_opened(tmp_path):
    (tmp_path / "link.ipynb").symlink_to(EXERCISE)
    os.mkfifo(tmp_path / "pipe.ipynb")
    (tmp_path / "folder.ipynb").mkdir()
    with open(tmp_path / "large.ipynb", "wb") as file:
        file.truncate(500 * MIB)
    wrong = [*tmp_path.iterdir(), tmp_path / "absent.ipynb"]
    wrong += [p for p in map(type(EXERCISE), ["/dev/zero"]) if p.exists()]
    for path in wrong:
        with pytest.raises(Rejected):
            load(path)
    data, key = load(EXERCISE)
    assert data == EXERCISE.read_bytes()
    assert len(key) == 64


def damaged(rng: random.Random, good: bytes) -> bytes:
    """A notebook with one value of its tree, or a few of its bytes, replaced."""
    if rng.random() < 0.4:
        data = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.choice([0, 1, 30])] = rng.randbytes(rng.choice([0, 1, 3]))
        return bytes(data)
    tree = json.loads(good)
    at = tree
    while True:
        keys = [*at] if isinstance(at, dict) else [*range(len(at))]
        key = rng.choice(keys)
        if isinstance(at[key], dict | list) and at[key] and rng.random() < 0.8:
            at = at[key]
            continue
        if rng.random() < 0.3:
            del at[key]
        else:
            at[key] = rng.choice(
                [None, 3, -1.5, True, "", "x" * 99, [], {}, [[]], {"a": 1}]
            )
        return json.dumps(tree).encode()


def fuzz(n: int, seed: int) -> tuple[int, int]:
    """How many of n damaged notebooks are read, and how many rejected; no other error."""
    rng, good = random.Random(seed), EXERCISE.read_bytes()
    read_well = rejected = 0
    for _ in range(n):
        try:
            found = read(damaged(rng, good))
            read_well += all(type(cell.source) is str for cell in found.cells)
        except Rejected:
            rejected += 1
    return read_well, rejected


@pytest.mark.parametrize("n", [500, pytest.param(10_000, marks=pytest.mark.full)])
def test_mutated_notebooks_are_read_or_rejected(n):
    read_well, rejected = fuzz(n, seed=n)
    assert read_well > n // 20
    assert rejected > n // 20
    assert read_well + rejected == n
