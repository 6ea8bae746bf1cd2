"""`gdm grade`: from a folder of notebooks to one verdict per submission, and reports."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from gdm_course.environment import cores
from gdm_course.grading.marks.apart import misplaced
from gdm_course.grading.marks.cli_reports import (
    Gradebook,
    fail,
    merge_command,
    report_command,
    stoppable,
    write_reports,
    writing,
)

Submissions = Annotated[Path, typer.Argument(help="A folder of notebooks, or one.")]
Out = Annotated[Path, typer.Option(help="Where verdicts and reports go.", file_okay=False)]
Unit = Annotated[str, typer.Option(help="The assignment, if it is not to be found out.")]
Floor = Annotated[str, typer.Option(help="The lowest rung of isolation to accept.")]
Bare = Annotated[bool, typer.Option(help="Grade without isolation if need be.")]
Jobs = Annotated[int, typer.Option(min=0, help="Workers; 0: one per core.")]
Resume = Annotated[
    bool, typer.Option("--resume/--again", help="Keep verdicts that still hold.")
]
Shard = Annotated[
    str, typer.Option(help="One task of an array job: 2/8 grades the second eighth.")
]
How = Annotated[str, typer.Option(help="Who grades: local, or dask for a cluster.")]
Address = Annotated[str, typer.Option(help="Of the Dask scheduler, tcp://HOST:PORT.")]


class Group(TyperGroup):
    """`gdm grade FOLDER` needs no word; `merge` and `report` are words."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Without one of the words, it is notebooks that are to be graded."""
        word = args[0] if args else ""
        known = word in self.commands and word != PLAIN
        return super().parse_args(ctx, args if known else [PLAIN, *args])


PLAIN = " "  # shows as nothing in a usage line
app = typer.Typer(cls=Group, add_completion=False, pretty_exceptions_enable=False)


@app.command(PLAIN, epilog="See also: gdm grade merge --help, gdm grade report --help")
def grade_command(
    submissions: Submissions,
    out: Out = Path("results"),
    unit: Unit = "",
    floor: Floor = "L3u",
    unsandboxed: Bare = False,
    jobs: Jobs = 0,
    resume: Resume = True,
    shard: Shard = "",
    executor: How = "local",
    address: Address = "",
    nbgrader: Gradebook = None,
) -> None:
    """Grade notebooks in a sealed box: one JSON per submission, then the reports."""
    with writing(out), stoppable(out):
        rung = _rung(submissions, unit, floor, unsandboxed)
        if wrong := misplaced(submissions, out, rung.name):
            fail(wrong)
        typer.echo(f"isolation: {rung.name} ({rung.how}); not covered: {rung.lacks}")
        out.mkdir(parents=True, exist_ok=True)

        def workers():
            return _workers(executor, address, jobs, rung.name, submissions, out)

        lost = _grade(submissions, out, rung.name, unit, resume, shard, workers)
        _finish(out, nbgrader, shard, lost)


def _grade(
    submissions: Path,
    out: Path,
    rung: str,
    unit: str,
    resume: bool,
    shard: str,
    workers: Callable,
) -> list[str]:
    """Grade what is to be graded, and say so; the names of what could not be."""
    from gdm_course.grading.marks.ledger import NoResults
    from gdm_course.grading.marks.workers import NoWorkers

    try:
        found, told, todo, done = _plan(submissions, out, rung, unit, resume, shard)
        with workers() as those:
            lost = _run(todo, those)
    except (NoResults, NoWorkers) as error:
        fail(str(error))
    _summarise(found, out, len(done), len(todo), lost)
    for line in told:
        typer.echo(line)
    return lost


def _finish(out: Path, gradebook: Path | None, shard: str, lost: list[str]) -> None:
    """Write the reports, unless other tasks are still at work; then admit what is lost."""
    if shard:
        typer.echo(f"when every task has ended: gdm grade report {out}")
    else:
        write_reports(out, gradebook)
    if lost:
        fail(f"{len(lost)} not graded, the grader failed: run the command again")


def _plan(submissions: Path, out: Path, rung: str, unit: str, resume: bool, shard: str):
    """Look for notebooks, enter them: what was found, is to be told, is to do, is done."""
    from gdm_course.grading.marks import adding, batch
    from gdm_course.grading.marks.workers import share

    try:
        found = batch.find(submissions)
    except OSError as error:
        fail(f"{submissions} cannot be read: {error.strerror}")
    if not found.names and not found.refused:
        fail(f"{submissions} has no .ipynb files: give the folder with the notebooks")
    if shard:
        found.paths = share(found.paths, shard)
    told = adding.enter(found, submissions, out)
    return found, told, *batch.plan(found, out.resolve(), rung, unit, resume)


def _rung(submissions: Path, unit: str, floor: str, unsandboxed: bool):
    """Look at what was asked for; the rung to grade on."""
    from gdm_course.grading.box.ladder import NAMES, NoRung, choose
    from gdm_course.grading.marks.batch import _maps

    if floor not in NAMES:
        fail(f"--floor {floor}: expected one of {', '.join(NAMES)}")
    if not submissions.exists():
        fail(f"{submissions} does not exist: give the folder with the notebooks")
    if unit and unit not in _maps():
        fail(f"--unit {unit}: expected one of {', '.join(_maps())}")
    try:
        return choose(floor, unsandboxed)
    except NoRung as error:
        fail(str(error))


def _workers(how: str, address: str, jobs: int, rung: str, submissions: Path, out: Path):
    """The executor that was asked for."""
    from gdm_course.grading.marks.workers import Cluster, Local, NoWorkers

    if how == "local":
        return Local(jobs or cores())
    if how != "dask":
        raise NoWorkers(f"--executor {how}: expected local or dask")
    return Cluster(address, rung, [submissions], out.resolve())


def _run(todo: list, workers) -> list[str]:
    """Grade with a progress bar; the names of what could not be graded."""
    from tqdm.auto import tqdm

    from gdm_course.grading.box.held import Unwritable
    from gdm_course.grading.judge.verdict import Status
    from gdm_course.grading.marks import batch
    from gdm_course.grading.marks.stops import minding_interrupts

    lost = []
    bar = tqdm(batch.run(todo, workers), total=len(todo), unit="notebook")
    try:
        with minding_interrupts():
            for job, result in bar:
                if result is None or result.status == Status.UNJUDGED:
                    lost.append(job.path.name)
    except (KeyboardInterrupt, Unwritable):
        bar.close()
        workers.stop()
        raise
    return lost


def _summarise(found, out: Path, kept: int, graded: int, lost: list[str]) -> None:
    from gdm_course.grading.marks.inert import shown

    files = sum(map(len, found.names.values()))
    typer.echo(
        f"{files} notebooks, {len(found.paths)} different: {graded - len(lost)} graded, "
        f"{kept} kept from before; verdicts in {out}"
    )
    for name, why in found.refused.items():
        typer.echo(f"✘ {shown(name)}: {shown(why, 400)}", err=True)


app.command("report")(report_command)
app.command("merge")(merge_command)
