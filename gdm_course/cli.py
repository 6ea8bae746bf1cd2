"""The command line of the course: `gdm --help`. Imports are lazy, so that it starts at once."""

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def doctor() -> None:
    """Look at this machine: one line per thing the course needs, each with a remedy."""
    from gdm_course.doctor import main

    raise typer.Exit(main())
