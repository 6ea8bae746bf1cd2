"""`gdm data ...`: the command line of a student's copy, where it is gdm_course/cli.py."""

import typer

from gdm_course.data.cli import app as data

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Your copy of the course: its data."
)
app.add_typer(data, name="data")


@app.callback()
def main() -> None:
    """Your copy of the course."""
