"""`make slides UNIT=family/unit`: a lecture as a reveal.js deck that needs no network.

`UNIT=all` makes every deck; `FURTHER=1` keeps the sections after the core. A slider moves
over pictures drawn ahead of time.
"""

import re
import sys
import tomllib
from functools import partial
from pathlib import Path

from jinja2 import Environment
from nbconvert.filters import markdown2html
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from gdm_course.console import forgiving, telling
from gdm_course.environment import must_write, on
from gdm_course.publishing import assets, deck, frames
from gdm_course.publishing.execute import (
    BUILD,
    OWN,
    Run,
    because,
    environment,
    execute,
    notebooks,
)
from gdm_course.publishing.slide import Slide
from gdm_course.source import ROOT

LIMIT = 8e6  # bytes of a deck's notebook
STYLE = HtmlFormatter(style="default")
TEMPLATE = ROOT / "docs" / "deck" / "deck.html.j2"


def render(run: Run, folder: Path, further: bool = False) -> Path:
    """Write the deck of an executed notebook to `folder/<family>/<unit>.html`.

    Its scripts are placed in `folder/assets`; without npm they come from the network.
    """
    urls = {
        name: f"../assets/{name}"
        if assets.place(name, folder / "assets")
        else assets.CDN[name]
        for name in assets.PACKAGES
    }
    target = folder / run.path.parent.name / f"{run.path.stem}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    if said := frames.fit(run.notebook, LIMIT):
        print(f"{target.relative_to(folder)}: {said}")
    target.write_text(page(deck.slides(run.notebook, further), urls), encoding="utf-8")
    return target


def page(slides: list[Slide], urls: dict[str, str]) -> str:
    """The HTML of a deck.

    Args:
        slides: what stands on it.
        urls: where reveal.js and mathjax are.
    """
    env = Environment(autoescape=False)
    env.filters |= {"markdown": markdown2html, "inline": inline, "joined": joined}
    env.filters["highlight"] = partial(highlight, lexer=PythonLexer(), formatter=STYLE)
    course = tomllib.loads((ROOT / "gdm_course" / "course.toml").read_text("utf-8"))
    return env.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        slides=slides,
        title=slides[0].heading if slides else "",
        course=course["title"],
        reveal=urls["reveal.js"],
        mathjax=f"{urls['mathjax']}/tex-chtml-full.js",
        pygments=STYLE.get_style_defs(".highlight"),
        sizes=deck,
    )


def inline(text: str) -> str:
    """The HTML of a heading, whose number begins no list."""
    paragraph = markdown2html(re.sub(r"^(\d+)\.", r"\1\\.", text)).strip()
    return paragraph.removeprefix("<p>").removesuffix("</p>")


def joined(text: str) -> str:
    """Keep the comma after a formula on the formula's line."""
    return re.sub(r"(\$[^$]+\$)([,.;:?!)]+)", r'<span class="joined">\1\2</span>', text)


def asked(units: list[str]) -> list[Path]:
    """The lectures of these units, all for "all".

    Raises:
        FileNotFoundError: there is no such lecture.
    """
    known = {f"{p.parent.name}/{p.stem}": p for p in notebooks("lectures")}
    if units == ["all"]:
        return [*known.values()]
    if unknown := [unit for unit in units or [""] if unit not in known]:
        names = ", ".join(f"lectures/{name}.ipynb" for name in known)
        raise FileNotFoundError(
            f"no lecture lectures/{unknown[0]}.ipynb; there are: {names}"
        )
    return [known[unit] for unit in units]


def main(arguments: list[str]) -> int:
    """Execute and render lectures; one that stops costs its own deck only.

    `--smoke` trains briefly.
    """
    try:
        paths = asked([argument for argument in arguments if not argument.startswith("-")])
    except FileNotFoundError as error:
        print(error)
        return 1
    must_write(BUILD, OWN)
    failures = 0
    for path in paths:
        print(f"Executing {path.relative_to(ROOT)} ...", flush=True)
        switches = {"CI": "true", "GDM_FRAMES": "1"}
        run = execute(path, environment(smoke="--smoke" in arguments, **switches))
        if run.error:
            failures += 1
            print(
                f"no deck of {path.relative_to(ROOT)}, cell {run.stopped}: {because(run)}"
            )
        else:
            print(f"Deck: {render(run, BUILD / 'slides', on('FURTHER'))}")
    return 1 if failures else 0


if __name__ == "__main__":
    forgiving()
    with telling():
        sys.exit(main(sys.argv[1:]))
