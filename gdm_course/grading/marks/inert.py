"""Text of strangers made inert: for terminals, tables and pages.

Names of files are the only text of a stranger that a report shows, but nothing here relies
on that: messages and names of questions go the same way.
"""

import html
import unicodedata
from collections.abc import Iterable

SHOWN = 120  # characters of one text; a name may have 300
# Controls, formats (bidi, zero width), surrogates, private, unassigned, line separators.
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
FORMULA = set("=+-@\t\r\n|＝＋－＠")


def shown(text: object, length: int = SHOWN) -> str:
    r"""Any text as one line in which every character is visible.

    What does not print, or turns the direction of what follows, becomes `\u202e`; so do
    odd letters in a name that mixes alphabets, for they only look like others. Blanks
    become ordinary, more than two accents on a letter are dropped, and a long text loses
    its middle.
    """
    plain = unicodedata.normalize("NFC", str(text))
    mixed = len({_alphabet(c) for c in plain if c.isalpha()} - {""}) > 1
    found, accents = [], 0
    for c in plain:
        accents = accents + 1 if unicodedata.combining(c) else 0
        if accents <= 2:
            found.append(_visible(c, mixed))
    line = "".join(found)
    if len(line) > length:
        line = f"{line[: length // 2]} […] {line[-(length // 3) :]}"
    return line


def _visible(c: str, mixed: bool) -> str:
    if unicodedata.category(c) in HIDDEN or (mixed and _alphabet(c) not in ("", "LATIN")):
        return f"\\u{ord(c):04x}"
    return " " if c.isspace() else c


def _alphabet(c: str) -> str:
    """LATIN, GREEK, CYRILLIC...: the first word of a letter's name."""
    return unicodedata.name(c, "").split(" ")[0] if c.isalpha() else ""


def cell(value: object) -> object:
    """A cell of a CSV that no spreadsheet takes for a formula; numbers stay numbers."""
    if value is None or isinstance(value, int | float):
        return "" if value is None else value
    raw = str(value)
    line = shown(raw, 1_000)
    risky = raw[:1] in FORMULA or raw.strip()[:1] in FORMULA or line[:1] in FORMULA
    return f"'{line}" if risky else line


class Markup(str):
    """Text that is HTML already: made by `tag` and nowhere else."""


Child = str | float | Iterable


def tag(name: str, *children: Child, **attributes: object) -> Markup:
    """An element. Children and attributes are escaped, unless `tag` made them.

    Names of attributes: `class_` for class, `stroke_width` for stroke-width; one with the
    value None is left out.
    """
    inside = "".join(map(_markup, children))
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{given}>{inside}</{name}>")


def _markup(child: Child) -> str:
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int | float):
        return _escaped(child)
    return "".join(map(_markup, child))


def _escaped(value: object) -> str:
    return html.escape(shown(value, 1_000), quote=True)
