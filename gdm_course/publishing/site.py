"""`make site`: the course with its outputs as a website that needs no network."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat

from gdm_course.console import forgiving, telling
from gdm_course.environment import must_write
from gdm_course.publishing import assets
from gdm_course.publishing.execute import (
    BUILD,
    OWN,
    Run,
    environment,
    execute,
    notebooks,
    without_widgets,
)
from gdm_course.source import ROOT

SOURCE = BUILD / "site-source"
SITE = BUILD / "site"
TREES = ("lectures", "solutions", "exercises")


def index(paths: list[Path]) -> str:
    """Write the front page: one table of contents per tree, in course order."""
    text = (ROOT / "gdm_course" / "course.toml").read_text(encoding="utf-8")
    course = tomllib.loads(text)
    lines = [
        f"# {course['title']}",
        "",
        f"{course['subtitle'][:1].upper()}{course['subtitle'][1:]}.",
        "",
    ]
    if (ROOT / "docs" / "gallery.png").is_file():
        lines += ["![one data set, every family](_static/gallery.png)", ""]
    for tree in TREES:
        pages = [p.relative_to(ROOT).with_suffix("") for p in paths if p.parts[-3] == tree]
        first = ["All units <lectures/index>"] if tree == "lectures" else []
        entries = first + [page.as_posix() for page in pages]
        lines += ["```{toctree}", f":caption: {tree.capitalize()}", ":maxdepth: 1", ""]
        lines += [*entries, "```", ""]
    return "\n".join(lines)


def lay_out(smoke: bool) -> list[str]:
    """Fill build/site-source with executed notebooks; return what failed, as text."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    static = SOURCE / "_static"
    static.mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "conf.py", SOURCE)
    shutil.copy(ROOT / "docs" / "site.css", static)
    if (ROOT / "docs" / "gallery.png").is_file():
        shutil.copy(ROOT / "docs" / "gallery.png", static)
    failures, paths = [], notebooks(*TREES)
    for path in [ROOT / "lectures" / "index.ipynb", *paths]:
        failures += _page(path, smoke)
    (SOURCE / "index.md").write_text(index(paths), encoding="utf-8")
    return failures


def _page(path: Path, smoke: bool) -> list[str]:
    """Put one notebook in place, executed unless it is an exercise."""
    name = path.relative_to(ROOT)
    target = SOURCE / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if name.parts[0] == "exercises":
        shutil.copy(path, target)
        return []
    print(f"  executing {name} ...", flush=True)
    run = execute(path, environment(smoke=smoke, CI="true"))
    nbformat.write(published(run), target)
    return [f"{name}: {run.error}"] if run.error else []


def published(run: Run) -> nbformat.NotebookNode:
    """What readers get of an executed notebook: still figures, no instructor's notes."""
    page = without_widgets(run.notebook)
    page.cells = [cell for cell in page.cells if not is_note(cell)]
    return page


def is_note(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell speaks to the instructor only."""
    return cell.metadata.get("slideshow", {}).get("slide_type") == "notes"


def build() -> int:
    """Run sphinx over build/site-source, with MathJax placed beside the pages."""
    env = dict(os.environ)
    if assets.place("mathjax", SOURCE / "_static"):
        env["GDM_MATHJAX"] = "mathjax/tex-chtml-full.js"
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-b", "html"]
    return subprocess.run([*command, str(SOURCE), str(SITE)], env=env).returncode


def main(arguments: list[str]) -> int:
    """Execute the notebooks and build the site; `--smoke` trains briefly."""
    must_write(BUILD, OWN)
    print("Executing lectures and solutions:")
    failures = lay_out(smoke="--smoke" in arguments)
    for failure in failures:
        print(failure)
    if failures or build():
        return 1
    print(f"Site: {SITE / 'index.html'}")
    return 0


if __name__ == "__main__":
    forgiving()
    with telling():
        sys.exit(main(sys.argv[1:]))
