"""Text as characters: tiny Shakespeare, first names, and the course's own words.

plays = text.shakespeare()
codes = plays.encode(plays.train)   # int64 (T,)
plays.decode(codes[:80])
"""

import ast
import random
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from gdm_course import validate
from gdm_course.data import download

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Text:
    """One text in three splits.

    Attributes:
        name: under which it was loaded.
        train, valid, test: the characters.
        source: what to call it beside a measured figure.
    """

    name: str
    train: str
    valid: str
    test: str
    source: str

    @cached_property
    def alphabet(self) -> str:
        """Every character that occurs, sorted; a character's code is its place."""
        return "".join(sorted(set(self.train + self.valid + self.test)))

    def encode(self, characters: str) -> Tensor:
        """Return codes, int64 (T,).

        Raises:
            ValueError: a character does not occur in the text.
        """
        code = {c: i for i, c in enumerate(self.alphabet)}
        if strange := sorted(set(characters) - set(code)):
            raise ValueError(f"{self.name} does not contain {''.join(strange)!r}")
        return torch.tensor([code[c] for c in characters], dtype=torch.int64)

    def decode(self, codes: Tensor) -> str:
        """Return the characters of codes (T,)."""
        codes = validate.codes(codes, len(self.alphabet), name="codes")
        return "".join(self.alphabet[i] for i in codes.tolist())


def shakespeare() -> Text:
    """Load tiny Shakespeare: 1,115,394 characters of 65 kinds.

    The test split is the last tenth, which is what others report as "validation loss". Our
    validation split is every twentieth piece of 1,000 characters before it: a stretch at
    the end would take a whole play, with its names, away from training.

    Raises:
        Missing: the text is not here and may not be downloaded.
    """
    whole = download.need("shakespeare")[0].read_text(encoding="utf-8")
    return _split("shakespeare", whole, "tiny Shakespeare")


def names() -> Text:
    """Load 32,033 first names, one a line, in a fixed random order: 80, 10 and 10 percent.

    The file has 2,539 names twice, so the splits share some; they are left in, as in the
    figures that others report.

    Raises:
        Missing: the names are not here and may not be downloaded.
    """
    lines = download.need("names")[0].read_text(encoding="utf-8").split()
    random.Random(42).shuffle(lines)  # the file is sorted by popularity
    a, b = int(0.8 * len(lines)), int(0.9 * len(lines))
    parts = ["\n".join(part) + "\n" for part in (lines[:a], lines[a:b], lines[b:])]
    return Text("names", *parts, "32,033 first names")


def course() -> Text:
    """Return the course's own words: text cells of its lectures, or else its docstrings.

    It needs no download, and it grows with the course: good to try a model on, not for a
    figure to compare. The test split is the last tenth.
    """
    scripts = sorted((PACKAGE.parent / "lectures").glob("**/src/*.py"))
    words = "\n\n".join(
        filter(None, (prose(p.read_text(encoding="utf-8")) for p in scripts))
    )
    if len(words) < 10_000:  # installed without its checkout, or hardly written yet
        modules = sorted(PACKAGE.glob("**/*.py"))
        words += "\n\n" + "\n\n".join(
            _docstrings(path.read_text(encoding="utf-8")) for path in modules
        )
    return _split("course", words, "the course's own text")


def prose(script: str) -> str:
    """Return the markdown cells of a percent script as plain text."""
    cells = []
    for cell in script.split("\n# %%")[1:]:
        head, _, body = cell.partition("\n")
        if "[markdown]" in head:
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.split("\n")]
            cells.append("\n".join(lines).strip())
    return "\n\n".join(cells)


def _docstrings(source: str) -> str:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    found = [
        ast.get_docstring(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, kinds)
    ]
    return "\n\n".join(filter(None, found))


def _split(name: str, whole: str, source: str) -> Text:
    """Test on the last tenth, validate on every twentieth piece of 1,000 before it."""
    first, test = whole[: int(0.9 * len(whole))], whole[int(0.9 * len(whole)) :]
    pieces = [first[i : i + 1000] for i in range(0, len(first), 1000)]
    valid = "".join(pieces[19::20] or pieces[-1:])
    del pieces[19::20]
    return Text(name, "".join(pieces), valid, test, source)
