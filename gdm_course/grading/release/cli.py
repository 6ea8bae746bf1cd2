"""`gdm release`: a tree for students, or one for instructors."""

from pathlib import Path
from typing import Annotated

import typer

from gdm_course.grading.marks.cli_reports import fail, interruptible, writing

Units = Annotated[list[str], typer.Argument(help="Units, such as flows/maf.")]
Out = Annotated[Path, typer.Option(help="A folder that is new or empty.")]
Instructor = Annotated[
    bool, typer.Option("--instructor", help="With solutions and rubrics.")
]
Lectures = Annotated[
    bool, typer.Option("--with-lectures", help="They quote what is withheld.")
]


def release_command(
    units: Units, out: Out, instructor: Instructor = False, with_lectures: Lectures = False
) -> None:
    """Write the tree of a course that grades: exercises, the package without answers."""
    from gdm_course.authoring.percent import AuthoringError
    from gdm_course.grading.release import tree
    from gdm_course.source import ROOT

    nothing = "nothing was written"
    try:
        with writing(out, nothing), interruptible(lambda: nothing):
            tree.may_be_written(out)
            if instructor:
                made = tree.instructor(ROOT, units)
            else:
                made = tree.student(ROOT, units, with_lectures)
            tree.write(made, out)
    except (tree.Refused, AuthoringError) as error:
        fail(str(error))
    size = sum(map(len, made.files.values())) / 1e6
    typer.echo(f"wrote {out}: {len(made.files)} files, {size:.1f} MB")
    if made.gone:
        typer.echo(f"left out: {', '.join(sorted(made.gone))}")
    for note in made.notes:
        typer.echo(f"note: {note}")
