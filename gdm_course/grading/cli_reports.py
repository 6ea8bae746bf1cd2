"""`gdm grade report` and `gdm grade merge`: what can be made from stored verdicts."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

Gradebook = Annotated[
    Path | None, typer.Option("--nbgrader", help="Also enter marks in this gradebook.db.")
]
Folders = Annotated[list[Path], typer.Argument(help="Folders of results.")]
Results = Annotated[Path, typer.Argument(help="A folder of results.")]
Merged = Annotated[Path, typer.Option(help="Where the merged results go.")]


def report_command(results: Results, nbgrader: Gradebook = None) -> None:
    """Write the reports of stored verdicts again: tables, pages, Gradescope."""
    write_reports(results, nbgrader)


def merge_command(
    results: Folders, out: Merged = Path("merged"), nbgrader: Gradebook = None
) -> None:
    """Make one folder of several: tasks of an array job, or several machines."""
    from gdm_course.grading import batch
    from gdm_course.grading.collect import NoResults
    from gdm_course.grading.merge import RULE, merge, save

    def now(unit: str) -> str | None:
        known = batch._maps().get(unit)
        return known.fingerprint if known else None

    try:
        merged = merge(results, now)
        save(merged, out)
    except NoResults as error:
        fail(str(error))
    typer.echo(f"{len(merged.verdicts)} verdicts on {len(merged.names)} files in {out}")
    if merged.conflicts:
        told = f"{len(merged.conflicts)} conflicts, all listed in {out / 'conflicts.csv'}"
        typer.echo(f"{told}; the rule: {RULE}")
    write_reports(out, nbgrader)


def write_reports(out: Path, gradebook: Path | None) -> None:
    """Tables, pages and files for Gradescope; a gradebook if one is named."""
    from gdm_course.grading.collect import NoResults, collect
    from gdm_course.grading.report import report

    try:
        typer.echo(f"reports: {report(out)}, marks.csv, questions.csv, gradescope/")
        if gradebook is not None:
            from gdm_course.grading.gradebook import enter

            for line in enter(collect(out), gradebook):
                typer.echo(line)
    except NoResults as error:
        fail(str(error))


def fail(sentence: str) -> NoReturn:
    """End with one sentence that says what to do."""
    typer.secho(f"✘ {sentence}", fg="red", err=True)
    raise typer.Exit(2)
