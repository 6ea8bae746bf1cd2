"""A drawing in a notebook: a picture that says in words what is on it.

JupyterLab, the site and the deck show the HTML, whose `alt` a screen reader reads; a tool
that wants a picture finds a PNG, whose metadata has the same words.
"""

import base64
import io
from html import escape
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from gdm_course.schematics.paint import paint
from gdm_course.schematics.parts import Sheet

QUIET = {"svg.hashsalt": "gdm", "svg.fonttype": "path"}  # the same bytes at every run


def file(figure: Figure, kind: str, **metadata: str | None) -> str:
    """Return a figure as a file, svg or png, in base64."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(QUIET):
        figure.savefig(buffer, format=kind, metadata=metadata, facecolor="white")
    return base64.b64encode(buffer.getvalue()).decode()


class Shown(Sheet):
    """A sheet that can be looked at."""

    def figure(self) -> Figure:
        """Return the drawing as a figure, on a white card."""
        return paint(self)

    def html(self) -> str:
        """Return an image element: sharp at every size, never wider than the page."""
        figure, alt = self.figure(), escape(self.alt)
        width = round(figure.get_size_inches()[0] * figure.dpi)
        style = f"width:{width}px;max-width:100%;height:auto;border-radius:6px"
        source = f"data:image/svg+xml;base64,{file(figure, 'svg', Date=None)}"
        return f'<img class="schematic" style="{style}" alt="{alt}" src="{source}">'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple:
        picture = file(self.figure(), "png", Description=self.alt)
        data = {"text/html": self.html(), "image/png": picture, "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}
