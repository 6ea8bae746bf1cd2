"""All reports of a folder of results, made from the stored verdicts alone.

marks.csv        one line per submission         questions.csv    one per question
class.html       the class, with figures         pages/KEY.html   one per submission
aside.csv        one per file that was not read  KEY: a hash of the file's name
gradescope/KEY/results.json
"""

import re
import shutil
from pathlib import Path

from gdm_course.grading.judge.verdict import write
from gdm_course.grading.marks import exports, ledger, pages
from gdm_course.grading.marks.collect import entries, replaced

OURS = re.compile(r"[0-9a-f]{24}(\.html)?")


def report(folder: Path) -> Path:
    """Write every report into the folder of results; returns the page of the class.

    Each file is replaced at once: a reader sees the old one or the new one, whole.

    Raises:
        NoResults: the folder has no index.
        OSError: a report cannot be written; those before it are.
    """
    book = ledger.read(folder)
    found = entries(book, folder)
    _clear(folder, {entry.key for entry in found})
    for entry in found:
        place = folder / "gradescope" / entry.key
        place.mkdir(parents=True, exist_ok=True)
        write(place / "results.json", exports.gradescope(entry))
        write(folder / "pages" / f"{entry.key}.html", pages.student(entry))
    write(folder / "marks.csv", exports.marks(found))
    write(folder / "questions.csv", exports.questions(found))
    write(folder / "aside.csv", exports.aside(map(tuple, book.aside.values())))
    older = replaced(book, folder)
    write(folder / "class.html", pages.overview(found, older, len(book.aside)))
    return folder / "class.html"


def _clear(folder: Path, keys: set[str]) -> None:
    """Make the folders, and remove pages of files that are no longer handed in."""
    for place in (folder / "pages", folder / "gradescope"):
        place.mkdir(exist_ok=True)
        for path in place.iterdir():
            if OURS.fullmatch(path.name) and path.stem not in keys:
                folder_of_ours = path.is_dir() and not path.is_symlink()
                shutil.rmtree(path) if folder_of_ours else path.unlink()
