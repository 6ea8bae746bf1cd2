"""`gdm grade`: from a folder of notebooks to one verdict per submission."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

Submissions = Annotated[Path, typer.Argument(help="A folder of notebooks, or one.")]
Out = Annotated[Path, typer.Option(help="Where verdicts go.")]
Unit = Annotated[str, typer.Option(help="The assignment, if it is not to be found out.")]
Floor = Annotated[str, typer.Option(help="The lowest rung of isolation to accept.")]
Bare = Annotated[bool, typer.Option(help="Grade without isolation if need be.")]
Jobs = Annotated[int, typer.Option(help="Workers; 0: one per core.")]
Resume = Annotated[
    bool, typer.Option("--resume/--again", help="Keep verdicts that still hold.")
]


def grade_command(
    submissions: Submissions,
    out: Out = Path("results"),
    unit: Unit = "",
    floor: Floor = "L3u",
    unsandboxed: Bare = False,
    jobs: Jobs = 0,
    resume: Resume = True,
) -> None:
    """Grade notebooks in a sealed box: one JSON per submission, and an index of names."""
    from gdm_course.grading import batch

    rung = _rung(submissions, floor, unsandboxed)
    typer.echo(f"isolation: {rung.name} ({rung.how}); not covered: {rung.lacks}")
    out.mkdir(parents=True, exist_ok=True)
    found = batch.find(submissions)
    todo, done = batch.plan(found, out.resolve(), rung.name, unit, resume)
    write_index(found, out)
    lost = _run(todo, jobs or os.cpu_count() or 1)
    _summarise(found, out, len(done), len(todo), lost)


def _rung(submissions: Path, floor: str, unsandboxed: bool):
    """Look at what was asked for; the rung to grade on."""
    from gdm_course.grading.ladder import NAMES, NoRung, choose

    if floor not in NAMES:
        _fail(f"--floor {floor}: expected one of {', '.join(NAMES)}")
    if not submissions.exists():
        _fail(f"{submissions} does not exist: give the folder with the notebooks")
    try:
        return choose(floor, unsandboxed)
    except NoRung as error:
        _fail(str(error))


def _run(todo: list, workers: int) -> list[str]:
    """Grade with a progress bar; the names of what could not be graded."""
    from tqdm.auto import tqdm

    from gdm_course.grading import batch

    lost = []
    with batch.pool(min(workers, max(1, len(todo)))) as executor:
        bar = tqdm(batch.run(todo, executor), total=len(todo), unit="notebook")
        for job, result in bar:
            if result is None:
                lost.append(job.path.name)
    return lost


def write_index(found, out: Path) -> None:
    """Write which files have which verdict: `index.json`, names to hashes."""
    from gdm_course.grading.verdict import write

    names = {name: key for key, all_names in found.names.items() for name in all_names}
    text = json.dumps({"submissions": names, "refused": found.refused}, indent=1)
    write(out / "index.json", text + "\n")


def _summarise(found, out: Path, kept: int, graded: int, lost: list[str]) -> None:
    files = sum(map(len, found.names.values()))
    typer.echo(
        f"{files} notebooks, {len(found.paths)} different: {graded - len(lost)} graded, "
        f"{kept} kept from before; verdicts in {out}"
    )
    for name, why in found.refused.items():
        typer.echo(f"✘ {name!r}: {why}", err=True)
    if lost:
        _fail(f"{len(lost)} not graded, the judge ended: run the command again")


def _fail(sentence: str) -> None:
    typer.secho(f"✘ {sentence}", fg="red", err=True)
    raise typer.Exit(2)
