"""A drawing in a notebook: a picture that says in words what is on it.

JupyterLab, the site and the deck show the HTML, whose `alt` a screen reader reads; a tool
that wants a picture finds a PNG, whose metadata has the same words.
"""

import base64
import io
from html import escape
from typing import Any

import matplotlib

from gdm_course.schematics.paint import paint
from gdm_course.schematics.parts import Sheet

QUIET = {"svg.hashsalt": "gdm", "svg.fonttype": "path"}  # the same bytes at every run


def rendered(drawing: Sheet, kind: str) -> bytes:
    """Return the drawing as a file of that kind, svg or png."""
    buffer = io.BytesIO()
    date = {"Date": None} if kind == "svg" else {"Description": drawing.alt}
    with matplotlib.rc_context(QUIET):
        paint(drawing).savefig(buffer, format=kind, metadata=date, facecolor="white")
    return buffer.getvalue()


def html(drawing: Sheet) -> str:
    """Return an image element: sharp at every size, never wider than the page."""
    data = base64.b64encode(rendered(drawing, "svg")).decode()
    width = round(paint(drawing).get_size_inches()[0] * 110)
    style = f"width:{width}px;max-width:100%;height:auto;background:white;border-radius:6px"
    source = f"data:image/svg+xml;base64,{data}"
    alt = escape(drawing.alt)
    return f'<img class="schematic" style="{style}" alt="{alt}" src="{source}">'


def bundle(drawing: Sheet) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the drawing for every kind of reader, as IPython's display protocol wants."""
    picture = base64.b64encode(rendered(drawing, "png")).decode()
    data = {"text/html": html(drawing), "image/png": picture, "text/plain": drawing.alt}
    return data, {"image/png": {"alt": drawing.alt}}
