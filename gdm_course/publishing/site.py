"""`make site`: the course with its outputs as a website that needs no network.

`SOLUTIONS=0` leaves the solutions out. A notebook that stops does not cost the others: its
page says what happened, and so does the exit status.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

from gdm_course.authoring.course import Course, load
from gdm_course.console import forgiving, telling
from gdm_course.environment import OFF, must_write
from gdm_course.publishing import assets, frames, pages
from gdm_course.publishing.execute import (
    BUILD,
    OWN,
    Run,
    because,
    environment,
    execute,
    notebooks,
)
from gdm_course.source import ROOT

SOURCE = BUILD / "site-source"
SITE = BUILD / "site"
LIMIT = 8e6  # bytes of a page with its pictures
FIELD = """<a href="_static/field.html">Draw a cloud of points</a>, see the best denoiser's
field at every noise level, and run samples through it."""
THEME = 3e5  # bytes of a page that are not of its notebook, at most


def with_solutions() -> bool:
    """Whether the site has them: unless SOLUTIONS is 0, false, no or off."""
    return os.environ.get("SOLUTIONS", "1").strip().lower() not in OFF


def index(course: Course) -> str:
    """Write the front page: the units of each family, in the order of course.toml."""
    subtitle = f"{course.subtitle[:1].upper()}{course.subtitle[1:]}."
    parts = [f"# {course.title}", subtitle]
    if (ROOT / "docs" / "gallery.png").is_file():
        parts.append("![one data set, every family](_static/gallery.png)")
    if (ROOT / "docs" / "field").is_dir():
        parts.append(FIELD)
    parts.append(pages.toctree(["lectures/index"], ":maxdepth: 1"))
    for family, name in course.families.items():
        units = [f"lectures/{u.key}" for u in course.written() if u.family == family]
        parts.append(pages.toctree(units, f":caption: {name}", ":maxdepth: 1"))
    return "\n\n".join(filter(None, parts)) + "\n"


def lay_out(course: Course, smoke: bool) -> list[Run]:
    """Fill build/site-source with executed notebooks; return the runs that stopped."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    static = SOURCE / "_static"
    static.mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "conf.py", SOURCE)
    for name in ("site.css", "gallery.png"):
        if (ROOT / "docs" / name).is_file():
            shutil.copy(ROOT / "docs" / name, static)
    if (ROOT / "docs" / "field").is_dir():  # needs no network
        shutil.copytree(ROOT / "docs" / "field", static, dirs_exist_ok=True)
    solutions = with_solutions()
    first = nbformat.read(ROOT / "lectures" / "index.ipynb", as_version=4)
    _put(pages.front(first, solutions), "lectures/index.ipynb")
    (SOURCE / "index.md").write_text(index(course), encoding="utf-8")
    trees = ("lectures", "exercises", "solutions")[: 2 + solutions]
    runs = [_page(path, course, smoke, solutions) for path in notebooks(*trees)]
    return [run for run in runs if run.error is not None]


def _page(path: Path, course: Course, smoke: bool, solutions: bool) -> Run:
    """Put one notebook in place, executed unless it is an exercise."""
    name = path.relative_to(ROOT).as_posix()
    if name.startswith("exercises/"):
        run = Run(path, nbformat.read(path, as_version=4))
    else:
        print(f"  executing {name} ...", flush=True)
        run = execute(path, environment(smoke=smoke, CI="true", GDM_FRAMES="1"))
    if said := frames.fit(run.notebook, LIMIT - THEME):
        print(f"  {name}: {said}")
    _put(pages.page(run, name, course, solutions), name)
    plain = SOURCE / pages.PLAIN / name
    plain.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, plain)
    return run


def _put(book: nbformat.NotebookNode, name: str) -> None:
    (SOURCE / name).parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, SOURCE / name)


def build() -> int:
    """Run sphinx over build/site-source, with MathJax placed beside the pages."""
    env = dict(os.environ)
    if assets.place("mathjax", SOURCE / "_static"):
        env["GDM_MATHJAX"] = "mathjax/tex-chtml-full.js"
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-b", "html"]
    return subprocess.run([*command, str(SOURCE), str(SITE)], env=env).returncode


def size(page: Path) -> int:
    """Bytes of a page and of the pictures that are its own."""
    text = page.read_text(encoding="utf-8")
    names = {*re.findall(r'src="([^"]*\b_images/[^"]+)"', text)}
    return page.stat().st_size + sum((page.parent / name).stat().st_size for name in names)


def too_large() -> str | None:
    """Name the pages over the limit in one line; None where there are none."""
    sizes = {page: size(page) for page in sorted(SITE.rglob("*.html"))}
    found = {page.relative_to(SITE): n for page, n in sizes.items() if n > LIMIT}
    named = ", ".join(f"{page} ({n / 1e6:.1f} MB)" for page, n in found.items())
    return f"pages over {LIMIT / 1e6:.0f} MB: {named}" if found else None


def main(arguments: list[str]) -> int:
    """Execute the notebooks and build the site; `--smoke` trains briefly."""
    must_write(BUILD, OWN)
    course = load(ROOT)
    print("Executing lectures" + " and solutions" * with_solutions() + ":")
    stopped = lay_out(course, smoke="--smoke" in arguments)
    if build():
        print("sphinx could not build the site")
        return 1
    if said := too_large():
        print(said)
    for run in stopped:
        print(f"{run.path.relative_to(ROOT)} stopped: {because(run)}")
    print(f"Site: {SITE / 'index.html'}")
    if stopped:
        print(f"{len(stopped)} of its pages say what stopped; the others are whole.")
    return int(bool(stopped))


if __name__ == "__main__":
    forgiving()
    with telling():
        sys.exit(main(sys.argv[1:]))
