"""The command line of the course: `gdm --help`. Lazy imports, so that it starts at once."""

import importlib
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from gdm_course.console import forgiving, telling

# Commands that live elsewhere, loaded when they are asked for: where, and what to call.
ELSEWHERE = {
    "data": ("gdm_course.data.cli", "app"),
    "train": ("gdm_course.scale.cli", "train_command"),
    "grade": ("gdm_course.grading.marks.cli", "app"),
    "release": ("gdm_course.grading.release.cli", "release_command"),
}


class Lazy(TyperGroup):
    """The commands of this file and of ELSEWHERE, which cost nothing until used."""

    def main(self, *args, **kwargs):
        """Run a command; whatever it says fits the console, trouble with files too."""
        forgiving()
        with telling():
            return super().main(*args, **kwargs)

    def list_commands(self, ctx: typer.Context) -> list[str]:
        """All names."""
        return [*super().list_commands(ctx), *ELSEWHERE]

    def get_command(self, ctx: typer.Context, name: str):
        """One command, imported now if it lives elsewhere."""
        if name not in ELSEWHERE:
            return super().get_command(ctx, name)
        module, attribute = ELSEWHERE[name]
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            single.command(name)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = name
        return command


app = typer.Typer(
    cls=Lazy, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.command()
def sync(
    force: Annotated[
        bool, typer.Option(help="Overwrite notebooks edited by hand.")
    ] = False,
) -> None:
    """Derive notebooks, exercises, tables and quoted cells from scripts and package."""
    from gdm_course.authoring import derive

    written, problems = _say_errors(derive.sync, _root(), force)
    for path in written:
        typer.echo(f"wrote {path}")
    _finish(problems, "everything derived is up to date")


@app.command()
def check(
    hours: Annotated[
        bool, typer.Option("--hours", help="First say how long each lecture is, and why.")
    ] = False,
) -> None:
    """Prove that everything derived is up to date, and that the rules of the house hold."""
    from gdm_course.authoring import derive, hour
    from gdm_course.authoring.check import check

    if hours:
        typer.echo(hour.table(_say_errors(derive.plan, _root()).lectures()))
    _finish(_say_errors(check, _root()), "scripts, package, notebooks and tables agree")


@app.command()
def adopt(
    notebook: Annotated[Path, typer.Argument(help="A notebook edited in JupyterLab.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the change.")
    ] = False,
) -> None:
    """Bring an edit made in JupyterLab back into the script, and print it."""
    from gdm_course.authoring.adopt import adopt

    diff = _say_errors(adopt, _root(), notebook, dry_run)
    typer.echo(diff or f"{notebook} has no edits to adopt")


@app.command()
def start(
    unit: Annotated[str, typer.Argument(help="A unit, such as autoregressive/nade.")],
    show: Annotated[bool, typer.Option("--open/--no-open", help="Open JupyterLab.")] = True,
) -> None:
    """Copy an exercise into work/, where it is yours, and open it."""
    from gdm_course.authoring.start import lab, start

    copy, new = _say_errors(start, _root(), unit)
    page = copy.relative_to(_root()).as_posix()
    typer.echo(
        f"made {page}" if new else f"{page} is there already: your work is untouched"
    )
    if show:
        raise typer.Exit(_say_errors(lab, _root(), page, None, True, []))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    ctx: typer.Context,
    port: Annotated[int | None, typer.Option(help="Where JupyterLab listens.")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Open JupyterLab at the index of the lectures; further arguments go to it."""
    from gdm_course.authoring import derive, start

    written, problems = _say_errors(derive.sync, _root())
    for line in [f"wrote {path}" for path in written] + [str(p) for p in problems]:
        typer.echo(line)
    page = "lectures/index.ipynb"
    raise typer.Exit(_say_errors(start.lab, _root(), page, port, browser, ctx.args))


@app.command()
def doctor(
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Try to break out of the grader's box.")
    ] = False,
) -> None:
    """Look at this machine: one line per thing the course needs, each with a remedy."""
    if sandbox:
        from gdm_course.grading.probes.live import main as probe

        raise typer.Exit(probe())
    from gdm_course.doctor import main

    raise typer.Exit(main())


@app.command()
def gallery(
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("docs/gallery.png"),
    steps: Annotated[int | None, typer.Option(help="Training steps per family.")] = None,
) -> None:
    """Fit every family to the same two moons and draw them beside the truth."""
    from gdm_course.gallery import draw

    draw(out, steps)
    typer.echo(f"wrote {out} ({out.stat().st_size / 1000:.0f} kB)")


def _root() -> Path:
    """The checkout this package lives in."""
    from gdm_course.source import ROOT

    here = [p for p in (Path.cwd(), *Path.cwd().parents) if _is_checkout(p)]
    if here and here[0].resolve() != ROOT.resolve():
        _fail(
            f"this gdm belongs to {ROOT}, but you are in {here[0]}: "
            "use that folder's own .venv/bin/gdm"
        )
    if not _is_checkout(ROOT):
        _fail(f"{ROOT} is no checkout of the course: clone it, 'pip install -e .[lab]'")
    return ROOT


def _is_checkout(path: Path) -> bool:
    return (path / "gdm_course" / "course.toml").is_file() and (path / "lectures").is_dir()


def _say_errors(action, *args):
    """Call; an author's mistake ends the command with its sentence, not a traceback."""
    from gdm_course.authoring.percent import AuthoringError

    try:
        return action(*args)
    except AuthoringError as error:
        _fail(str(error))


def _finish(problems: list, otherwise: str) -> None:
    for problem in problems:
        typer.secho(f"✘ {problem}", fg="red", err=True)
    if problems:
        typer.echo(f"{len(problems)} problem{'s' * (len(problems) > 1)}", err=True)
        raise typer.Exit(1)
    typer.secho(f"✔ {otherwise}", fg="green")


def _fail(sentence: str) -> None:
    typer.secho(f"✘ {sentence}", fg="red", err=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
