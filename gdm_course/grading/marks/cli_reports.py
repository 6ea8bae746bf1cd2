"""`gdm grade report` and `gdm grade merge`: what can be made from stored verdicts."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

Gradebook = Annotated[
    Path | None, typer.Option("--nbgrader", help="Also enter marks in this gradebook.db.")
]
Folders = Annotated[list[Path], typer.Argument(help="Folders of results.")]
Results = Annotated[Path, typer.Argument(help="A folder of results.")]
Merged = Annotated[Path, typer.Option(help="Where the merged results go.")]
KEPT = "what was judged is kept"
ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make it writable"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTEMPTY), "move the folder of that name away"),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "move the file of that name away"),
}


def report_command(results: Results, nbgrader: Gradebook = None) -> None:
    """Write the reports of stored verdicts again: tables, pages, Gradescope."""
    with interruptible(lambda: KEPT):
        write_reports(results, nbgrader)


def merge_command(
    results: Folders, out: Merged = Path("merged"), nbgrader: Gradebook = None
) -> None:
    """Make one folder of several: tasks of an array job, or several machines."""
    from gdm_course.grading.marks import batch
    from gdm_course.grading.marks.ledger import NoResults
    from gdm_course.grading.marks.merge import merge, save
    from gdm_course.grading.marks.turns import alone

    def now(unit: str) -> str | None:
        known = batch._maps().get(unit)
        return known.fingerprint if known else None

    with writing(out), interruptible(lambda: KEPT):
        try:
            merged = merge(results, now)
            out.mkdir(parents=True, exist_ok=True)
            with alone(out):
                save(merged, out)
        except NoResults as error:
            fail(str(error))
        _told(merged, out)
        write_reports(out, nbgrader)


def _told(merged, out: Path) -> None:
    from gdm_course.grading.marks.merge import RULE

    typer.echo(f"{len(merged.verdicts)} verdicts on {len(merged.names)} files in {out}")
    if merged.conflicts:
        told = f"{len(merged.conflicts)} conflicts, all listed in {out / 'conflicts.csv'}"
        typer.echo(f"{told}; the rule: {RULE}")


def write_reports(out: Path, gradebook: Path | None) -> None:
    """Tables, pages and files for Gradescope; a gradebook if one is named."""
    from gdm_course.grading.marks.collect import collect, versions
    from gdm_course.grading.marks.gradebook import enter
    from gdm_course.grading.marks.ledger import NoResults, read
    from gdm_course.grading.marks.report import report
    from gdm_course.grading.marks.turns import alone

    with writing(out):
        try:
            read(out)  # nothing is written into a folder that holds no results
            with alone(out):
                typer.echo(f"reports: {report(out)}, marks.csv, questions.csv, gradescope/")
                found = collect(out)
                for line in enter(found, gradebook) if gradebook else ():
                    typer.echo(line)
        except NoResults as error:
            fail(str(error))
    for unit, count in versions(found).items():
        typer.echo(
            f"{count} versions of {unit} among the marks: grade the older ones again"
        )


@contextmanager
def writing(out: Path, so: str = KEPT) -> Iterator[None]:
    """End with one sentence if something cannot be written.

    Args:
        out: the folder to write into.
        so: what holds then.
    """
    try:
        yield
    except OSError as error:
        told = f"{error.filename or out}: {error.strerror or error}"
        advice = ADVICE.get(error.errno, "mend that")
        fail(f"{told}: {advice}, then run this again; {so}")


@contextmanager
def interruptible(so: Callable[[], str]) -> Iterator[None]:
    """Take Ctrl-C and the signals that end a process for an interrupt: one sentence.

    Args:
        so: what holds then.
    """
    from gdm_course.grading.marks.stops import minding_interrupts

    try:
        with minding_interrupts():
            yield
    except KeyboardInterrupt:
        told = f"interrupted: {so()}; to go on, run the same command again"
        typer.secho(told, err=True)
        raise typer.Exit(130) from None


@contextmanager
def stoppable(out: Path) -> Iterator[None]:
    """The same for `gdm grade`: no folder of a box stays behind, of this run or another."""
    from gdm_course.grading.box import held

    def safe() -> str:
        kept = sum(1 for path in out.glob("*.json") if len(path.stem) == 64)
        return f"{kept} verdicts are safe in {out}"

    held.sweep(held.STAGE, held.SCRATCH)
    try:
        with interruptible(safe):
            yield
    finally:
        held.sweep(held.STAGE, held.SCRATCH)


def fail(sentence: str) -> NoReturn:
    """End with one sentence that says what to do."""
    typer.secho(f"✘ {sentence}", fg="red", err=True)
    raise typer.Exit(2)
