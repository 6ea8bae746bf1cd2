"""The command line of the course: `gdm --help`. Lazy imports, so that it starts at once."""

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.command()
def sync(
    force: bool = typer.Option(False, help="Overwrite notebooks that were edited by hand."),
) -> None:
    """Derive notebooks, exercises, tables and quoted cells from scripts and package."""
    from gdm_course.authoring import derive
    from gdm_course.source import ROOT

    written, problems = derive.sync(ROOT, force)
    for path in written:
        typer.echo(f"wrote {path}")
    for problem in problems:
        typer.secho(str(problem), fg="red", err=True)
    raise typer.Exit(1 if problems else 0)


@app.command()
def doctor() -> None:
    """Look at this machine: one line per thing the course needs, each with a remedy."""
    from gdm_course.doctor import main

    raise typer.Exit(main())


if __name__ == "__main__":
    app()
