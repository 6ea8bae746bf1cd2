"""One HTTP transfer into a partial file, continued where an earlier one stopped."""

import contextlib
import os
from pathlib import Path
from types import SimpleNamespace

from gdm_course.data.registry import File
from gdm_course.environment import on

CHUNK = 1 << 16
TIMEOUT = (10, 30)  # seconds to connect, seconds without a byte


class Broken(Exception):
    """One transfer failed; what came so far may be kept for the next one."""


def size_of(path: Path) -> int:
    """Return a file's size in bytes, 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


def continue_part(url: str, part: Path, file: File) -> None:
    """Append to `part` what is missing of the file.

    The size known in the registry counts, never the one that a server announces.

    Raises:
        Broken: with the reason in a few words, unless `part` then has the file's size.
    """
    import requests
    import urllib3

    have = size_of(part)
    headers = {"Accept-Encoding": "identity"} | (
        {"Range": f"bytes={have}-"} if have else {}
    )
    try:
        if have < file.size:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
                _append(answer, part, have, file)
    except (
        OSError,
        urllib3.exceptions.HTTPError,
    ) as error:  # requests' errors are OSErrors
        if size_of(part) != file.size:
            raise Broken(_why(error)) from error
    if (came := size_of(part)) > file.size:
        part.unlink()
        raise Broken(f"it sent more than the {file.size:,} bytes of the file")
    if came < file.size:
        raise Broken(f"the line dropped after {came:,} of {file.size:,} bytes")


def _append(answer, part: Path, have: int, file: File) -> None:
    """Write the body of an answer behind the `have` bytes that are there."""
    begins = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    if answer.status_code == 416 or (answer.status_code == 206 and not begins):
        part.unlink(missing_ok=True)
        raise Broken("it could not continue where the line dropped")
    if answer.status_code not in (200, 206):
        raise Broken(f"it answered {answer.status_code} {answer.reason}")
    have = have if answer.status_code == 206 else 0  # 200: the whole file, from its start
    with open(part, "ab" if have else "wb") as out, _bar(file, have) as bar:
        try:
            for chunk in answer.raw.stream(CHUNK, decode_content=False):
                out.write(chunk)
                bar.update(len(chunk))
                if out.tell() > file.size:
                    return
        finally:
            out.flush()
            os.fsync(out.fileno())


def _why(error: BaseException) -> str:
    """Say in a few words what went wrong with a line."""
    text = f"{type(error).__name__} {error}"
    known = {
        "refused": "it refused the connection",
        "resolve": "its name could not be found",
        "imed out": "it did not answer in time",
        "IncompleteRead": "the line dropped",
        "No space": "the disk is full",
    }
    return next(
        (words for sign, words in known.items() if sign in text), type(error).__name__
    )


def _bar(file: File, have: int):
    """Return a progress bar, silent in CI, in smoke runs and where tqdm is missing."""
    quiet = on("CI", "GDM_SMOKE")
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return contextlib.nullcontext(SimpleNamespace(update=lambda n: None))
    name = Path(file.path).name
    return tqdm(
        total=file.size, initial=have, unit="B", unit_scale=True, desc=name, disable=quiet
    )
