"""What a code cell leaves to look at: a figure, a printed table, or nothing."""

import base64
import html
import re
import struct
from dataclasses import dataclass

from nbformat import NotebookNode

from gdm_course.frames import MIME
from gdm_course.publishing import frames
from gdm_course.publishing.execute import printed
from gdm_course.source import lines

SCHEMATIC = '<img class="schematic"'
PICTURES = ("image/svg+xml", "image/png", "image/webp", "image/jpeg")
COLUMNS, ROWS = 94, 16  # of printed text on a slide
FEW = (72, 8)  # columns and rows of a table that can be set larger


@dataclass(frozen=True)
class Figure:
    """Something to look at.

    Attributes:
        html: what goes on the page.
        ratio: width over height of a picture; None where unknown.
        rows: lines of a printed table, 0 for a picture.
        moves: whether sliders stand above it.
    """

    html: str
    ratio: float | None = None
    rows: int = 0
    moves: bool = False


def figures(cell: NotebookNode, alt: str) -> list[Figure]:
    """The figures of a cell; what it printed counts as one if it is a table and alone.

    Args:
        cell: an executed code cell.
        alt: says what a picture shows where the picture does not say so itself.
    """
    outputs = [out for out in cell.get("outputs", []) if out.get("data")]
    found = [figure for out in outputs if (figure := _figure(out, alt))]
    rows = lines(printed(cell).strip("\n"))
    return found or ([_table(rows)] if len(rows) > 1 else [])


def remarks(cell: NotebookNode) -> str:
    """What a cell printed beside its figures, for the lecturer's notes."""
    text = printed(cell).strip("\n")
    alone = not any(_figure(out, "") for out in cell.get("outputs", []) if out.get("data"))
    return "" if alone and len(lines(text)) > 1 else text


def _figure(out: NotebookNode, alt: str) -> Figure | None:
    data, meta = out.data, out.get("metadata", {})
    if MIME in data:
        return Figure(frames.html(data[MIME]), moves=True)
    found = [kind for kind in PICTURES if kind in data]
    if SCHEMATIC in data.get("text/html", ""):  # sharper than the picture beside it
        page = re.sub(r' style="[^"]*"', "", data["text/html"])
        return Figure(page, _ratio(data["image/png"]))
    said = meta.get(found[0], {}).get("alt", alt) if found else alt
    return _picture(found[0], data[found[0]], said) if found else None


def _picture(kind: str, content: str | list[str], alt: str) -> Figure:
    text = content if isinstance(content, str) else "".join(content)
    if kind == "image/svg+xml":
        text = base64.b64encode(text.encode()).decode()
    source = f"data:{kind};base64,{''.join(text.split())}"
    image = f'<img src="{source}" alt="{html.escape(alt, quote=True)}">'
    return Figure(image, _ratio(text) if kind == "image/png" else None)


def _ratio(encoded: str) -> float | None:
    """Width over height, from the header of a PNG."""
    head = base64.b64decode("".join(encoded.split())[:64])
    if head[:4] != b"\x89PNG":
        return None
    width, height = struct.unpack(">II", head[16:24])
    return width / height


def _table(rows: list[str]) -> Figure:
    kept = rows if len(rows) <= ROWS else [*rows[: ROWS - 1], "…"]
    cut = [re.sub(rf"^(.{{{COLUMNS - 1}}}).{{2,}}", r"\1…", row) for row in kept]
    few = max(map(len, cut)) <= FEW[0] and len(cut) <= FEW[1]
    tag = '<pre class="large">' if few else "<pre>"
    return Figure(f"{tag}{html.escape(chr(10).join(cut))}</pre>", rows=len(cut))
