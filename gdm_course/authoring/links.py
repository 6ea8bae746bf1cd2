"""Internal links: every relative link must lead to a file, every anchor to a heading."""

import json
import posixpath
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import unquote

from gdm_course.authoring import notebook
from gdm_course.authoring.derive import Plan, Problem
from gdm_course.authoring.hour import NOT_TEXT

PAGES = ("README.md", "CONTRIBUTING.md")
_LINK = re.compile(
    r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)|(?:href|src)=[\"']([^\"']+)[\"']"
    r"|^\[[^\]]+\]: +(\S+)",
    re.MULTILINE,
)
PASTED = "attachment:"
NO_PICTURES = (
    "a script holds text alone: draw it in a code cell, or save it as docs/NAME.png and "
    "link to it with ![what it shows](../../docs/NAME.png)"
)
_ELSEWHERE = re.compile(rf"(?!{PASTED})[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def problems(made: Plan) -> Iterator[Problem]:
    """Say which links of the notebooks and of the pages lead nowhere."""
    texts = {p: markdown(t) for p, t in made.files.items() if p.endswith(".ipynb")}
    for page in PAGES:
        if (made.course.root / page).is_file():
            texts[page] = (made.course.root / page).read_text(encoding="utf-8")
    for path, text in texts.items():
        for target in dict.fromkeys(targets(text)):
            if wrong := _wrong(path, target, texts, made):
                yield Problem(f"{path}: the link '{target}' {wrong}")


def markdown(stored: str) -> str:
    """The markdown of a notebook."""
    cells = json.loads(stored)["cells"]
    return "\n\n".join(notebook.text(c) for c in cells if c["cell_type"] == "markdown")


def targets(text: str) -> Iterator[str]:
    """Relative link targets of a markdown text; code and formulas do not count."""
    for match in _LINK.finditer(NOT_TEXT.sub("", text)):
        target = next(filter(None, match.groups()))
        if not _ELSEWHERE.match(target):
            yield target


@lru_cache(maxsize=256)
def anchors(text: str) -> frozenset[str]:
    """What `#...` may name: headings as GitHub and Jupyter write them, and ids."""
    plain = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    heads = [h.strip(" #") for h in re.findall(r"^#{1,6} (.+)$", plain, re.MULTILINE)]
    github = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}
    jupyter = {h.replace(" ", "-") for h in heads}
    return frozenset(
        github | jupyter | {*re.findall(r"(?:id|name)=[\"']([^\"']+)[\"']", plain)}
    )


def _wrong(path: str, target: str, texts: dict[str, str], made: Plan) -> str | None:
    """Why a link leads nowhere, or None."""
    if target.startswith(PASTED):
        return f"names a pasted picture: {NO_PICTURES}"
    file, _, anchor = unquote(target).partition("#")
    goal = (
        posixpath.normpath(posixpath.join(posixpath.dirname(path), file)) if file else path
    )
    if file.startswith("/") or goal.startswith(".."):
        return "leads out of the course: write it relative to this file"
    if goal not in made.files and not (made.course.root / goal).exists():
        return f"leads to {goal}, which does not exist"
    if anchor and goal in texts and anchor not in anchors(texts[goal]):
        return f"names a heading that {goal} does not have"
    return None
