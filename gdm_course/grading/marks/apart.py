"""Keep apart what students hand in, what the judge writes, and what boxes read."""

import os
from pathlib import Path

from gdm_course.grading.box.places import exposed, mounted

READ_THE_HOST = ("L3", "L3u", "L2")  # rungs whose boxes see some folders of the host


def misplaced(submissions: Path, out: Path, rung: str) -> str:
    """What is wrong with the two folders of a run, in a sentence; "" if nothing is.

    A file that a student names like a verdict must not lie where verdicts are kept, and
    neither folder where a box can read it.
    """
    if overlap(submissions, out):
        return (
            f"--out {out} and {submissions} overlap: a file that was handed in could pass "
            "for a verdict; give results a folder of their own, beside the notebooks"
        )
    return unfit(submissions, rung) or unfit(out, rung)


def overlap(submissions: Path, out: Path) -> bool:
    """Whether one folder lies in the other, by whatever link or mount."""
    for given in mounted(submissions.resolve()):
        for kept in mounted(out.resolve()):
            inside = kept.is_relative_to(given) and not given.is_file()
            if inside or given.is_relative_to(kept):
                return True
    return False


def unfit(place: Path, rung: str) -> str:
    """Why a place cannot hold what is to be graded, or results of it; "" if it can."""
    if rung in READ_THE_HOST and (shown := exposed(place)):
        return f"{place} lies in {shown}, which every box reads: move it elsewhere"
    return ""


def obstacle(name: str, rung: str) -> str:
    """Why another machine cannot use a place, or ""."""
    if not os.path.exists(name):
        return f"it does not see {name}: use a folder that all machines share"
    return unfit(Path(name), rung)
