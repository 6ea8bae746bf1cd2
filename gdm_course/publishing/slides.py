"""`make slides UNIT=family/unit`: a lecture as a reveal.js deck that needs no network.

The deck shows each widget's still figure; to move it, present from JupyterLab.
"""

import sys
from pathlib import Path

from nbconvert import SlidesExporter

from gdm_course.console import forgiving, telling
from gdm_course.environment import must_write
from gdm_course.publishing import assets
from gdm_course.publishing.execute import BUILD, OWN, Run, environment, execute
from gdm_course.source import ROOT


def title(run: Run) -> str:
    """The first heading of a notebook."""
    for cell in run.notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return cell.source.split("\n")[0].removeprefix("# ").strip()
    return run.path.stem


def render(run: Run, folder: Path) -> Path:
    """Write the deck of an executed notebook to `folder/<family>/<unit>.html`.

    Its scripts are placed in `folder/assets`; without npm they come from the network.
    """
    shelf = folder / "assets"
    urls = {
        name: f"../assets/{name}" if assets.place(name, shelf) else assets.CDN[name]
        for name in assets.PACKAGES
    }
    exporter = SlidesExporter(
        template_name="deck",
        extra_template_basedirs=[str(ROOT / "docs")],
        reveal_url_prefix=urls["reveal.js"],
        mathjax_url=f"{urls['mathjax']}/tex-chtml-full.js",
        reveal_theme="white",  # the one whose fonts are in the package
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    name = {"metadata": {"name": title(run)}}
    page, _ = exporter.from_notebook_node(run.notebook, resources=name)
    target = folder / run.path.parent.name / f"{run.path.stem}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    return target


def main(arguments: list[str]) -> int:
    """Execute and render one unit; `--smoke` trains briefly."""
    units = [argument for argument in arguments if not argument.startswith("-")]
    path = ROOT / "lectures" / f"{units[0]}.ipynb" if units else ROOT
    if not path.is_file():
        known = sorted(p.relative_to(ROOT) for p in ROOT.glob("lectures/*/*.ipynb"))
        print(
            f"no lecture {path.relative_to(ROOT)}; there are: {', '.join(map(str, known))}"
        )
        return 1
    must_write(BUILD, OWN)
    print(f"Executing {path.relative_to(ROOT)} ...", flush=True)
    run = execute(path, environment(smoke="--smoke" in arguments, CI="true"))
    if run.error:
        print(run.error)
        return 1
    print(f"Deck: {render(run, BUILD / 'slides')}")
    return 0


if __name__ == "__main__":
    forgiving()
    with telling():
        sys.exit(main(sys.argv[1:]))
