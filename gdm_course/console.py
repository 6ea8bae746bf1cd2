"""Print on any console: what its encoding lacks is written with plain characters.

A Windows console writes cp1252 into a pipe, a bare server ASCII, and Python stops with an
error at the first character that they do not have.
"""

import codecs
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EDQUOT, EEXIST, EISDIR, ENOSPC, ENOTDIR, EPERM, EROFS
from typing import TextIO

PLAIN = {"✔": "+", "✘": "x", "·": "-", "•": "*", "→": "->", "±": "+-", "≤": "<=", "≥": ">="}
PLAIN |= {"…": "...", "–": "-", "×": "x"}
ELSEWHERE, ROOM = (
    "choose a folder that you may write to",
    "make room, or choose another disk",
)
ADVICE = dict.fromkeys((EACCES, EPERM, EROFS, ENOTDIR, EISDIR, EEXIST), ELSEWHERE)
ADVICE |= dict.fromkeys((ENOSPC, EDQUOT), ROOM)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded: marks as in PLAIN, letters without their accents."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    made = ""
    for character in error.object[error.start : error.end]:
        bare = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        made += PLAIN.get(character) or bare or "?"
    return made, error.end


def _seven_bits(name: str) -> codecs.CodecInfo | None:
    """ASCII under a name of ours: click mistrusts the usual one and would write UTF-8."""
    if name != "gdm_ascii":
        return None
    usual = codecs.lookup("ascii")
    return codecs.CodecInfo(
        usual.encode,
        usual.decode,
        usual.streamreader,
        usual.streamwriter,
        usual.incrementalencoder,
        usual.incrementaldecoder,
        name=name,
    )


codecs.register_error("gdm_plainly", _plainly)
codecs.register(_seven_bits)


def fitting(text: str, stream: TextIO) -> str:
    """Return a text as a stream can show it."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "gdm_plainly").decode(encoding)


def say(text: str) -> None:
    """Print a line that may have marks and accents."""
    print(fitting(text, sys.stdout), flush=True)


def forgiving() -> None:
    """Let everything that this process prints from now on fit its console."""
    for stream in (sys.stdout, sys.stderr):
        if not hasattr(stream, "reconfigure"):  # None, or somebody's replacement
            continue
        seven = codecs.lookup(stream.encoding).name == "ascii"
        stream.reconfigure(
            errors="gdm_plainly", encoding="gdm_ascii" if seven else stream.encoding
        )


def told(error: OSError) -> str | None:
    """Return one sentence on trouble with files, None for what may be a mistake of ours."""
    if error.errno is None:
        return str(error) or None  # a sentence already
    advice = ADVICE.get(error.errno)
    return advice and f"{error.filename or 'a file'}: {error.strerror}: {advice}"


@contextmanager
def telling() -> Iterator[None]:
    """End the process with a sentence where files cannot be written, no traceback."""
    try:
        yield
    except OSError as error:
        if (sentence := told(error)) is None:
            raise
        print(fitting(f"✘ {sentence}", sys.stderr), file=sys.stderr)
        raise SystemExit(2) from None
