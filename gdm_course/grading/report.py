"""All reports of a folder of results, made from the stored verdicts alone.

marks.csv        one line per submission         questions.csv    one per question
class.html       the class, with figures         pages/KEY.html   one per submission
gradescope/KEY/results.json                      KEY: a hash of the file's name
"""

import re
import shutil
from pathlib import Path

from gdm_course.grading import exports, pages
from gdm_course.grading.collect import collect
from gdm_course.grading.verdict import write

OURS = re.compile(r"[0-9a-f]{24}(\.html)?")


def report(folder: Path) -> Path:
    """Write every report into the folder of results; returns the page of the class.

    Each file is replaced at once: a reader sees the old one or the new one, whole.

    Raises:
        NoResults: the folder has no index.
    """
    entries = collect(folder)
    _clear(folder, {entry.key for entry in entries})
    for entry in entries:
        place = folder / "gradescope" / entry.key
        place.mkdir(parents=True, exist_ok=True)
        write(place / "results.json", exports.gradescope(entry))
        write(folder / "pages" / f"{entry.key}.html", pages.student(entry))
    write(folder / "marks.csv", exports.marks(entries))
    write(folder / "questions.csv", exports.questions(entries))
    write(folder / "class.html", pages.overview(entries))
    return folder / "class.html"


def _clear(folder: Path, keys: set[str]) -> None:
    """Make the folders, and remove pages of files that are no longer handed in."""
    for place in (folder / "pages", folder / "gradescope"):
        place.mkdir(exist_ok=True)
        for path in place.iterdir():
            if OURS.fullmatch(path.name) and path.stem not in keys:
                path.unlink() if path.suffix else shutil.rmtree(path)
