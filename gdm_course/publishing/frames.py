"""Sliders without a kernel: what `gdm_course.frames` drew ahead, as HTML within a budget.

The site and the decks take three steps with an executed notebook:

    said = frames.fit(run.notebook, limit)     # smaller pictures where a page is too large
    page = frames.moving(run.notebook)         # a copy whose sliders are HTML
    page = execute.without_widgets(page)
"""

import base64
import hashlib
import io
import json
from functools import lru_cache
from typing import Any

import nbformat
from jinja2 import Environment, Template

from gdm_course.frames import MIME, encoded, spread, start_of
from gdm_course.source import ROOT

TEMPLATE = ROOT / "docs" / "frames.html.j2"
SMALL, LESS = 480, 0.75  # pixels across below which pictures stay; a step of shrinking
FEW = 3  # values that a slider keeps in any case


def html(payload: dict[str, Any]) -> str:
    """Turn one output into a figure with sliders that needs nothing else.

    Args:
        payload: what `gdm_course.frames.ahead` returns.

    Returns:
        A `<figure>` with its style and script; any number of them fit on one page.
    """
    frames, first = [*payload["frames"]], start(payload)
    still, frames[first] = frames[first], ""
    labels = [slider["values"] for slider in payload["sliders"]]
    text = json.dumps(payload, sort_keys=True).encode()
    return _template(TEMPLATE.read_text(encoding="utf-8")).render(
        {**payload, "width": payload.get("width", "")},
        key=hashlib.sha256(text).hexdigest()[:12],
        still=_address(still),
        data={
            "frames": [_address(frame) for frame in frames],
            "labels": labels,
            "start": first,
        },
    )


def moving(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Copy a notebook with HTML in place of every output that was drawn ahead."""
    copied = nbformat.from_dict(notebook)
    for output in _ahead(copied):
        text = html(output["data"][MIME])
        output["data"] = {"text/html": text, "text/plain": "figure"}
    return copied


def start(payload: dict[str, Any]) -> int:
    """Return the number of the frame that is shown first."""
    return start_of([(len(s["values"]), s["start"]) for s in payload["sliders"]])


def fit(notebook: nbformat.NotebookNode, limit: float) -> str | None:
    """Make the notebook's frames smaller, or fewer, until all of it stays below a limit.

    Args:
        notebook: executed; its outputs are changed in place.
        limit: of the notebook with its outputs, in bytes.

    Returns:
        What was done to them, in one line; None where nothing had to be.
    """
    payloads = [output["data"][MIME] for output in _ahead(notebook)]
    rest = len(json.dumps(notebook)) - sum(map(_size, payloads))
    steps = 0
    while rest + sum(map(_size, payloads)) > limit:
        if not any(_less(p) for p in sorted(payloads, key=_size, reverse=True)):
            break
        steps += 1
    if not steps:
        return None
    number = sum(len(payload["frames"]) for payload in payloads)
    megabytes = (rest + sum(map(_size, payloads))) / 1e6
    return f"frames made smaller in {steps} steps: {number} are left, {megabytes:.1f} MB"


def _less(payload: dict[str, Any]) -> bool:
    """Take one step down: smaller pictures, then fewer values; False where none is left."""
    if payload["width"] * LESS >= SMALL:
        payload["frames"] = [_shrunk(frame) for frame in payload["frames"]]
        payload["width"] = round(payload["width"] * LESS)
        return True
    longest = max(payload["sliders"], key=lambda slider: len(slider["values"]))
    if len(longest["values"]) <= FEW:
        return False
    _thin(payload, payload["sliders"].index(longest))
    return True


def _shrunk(frame: str) -> str:
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(frame)))
    size = round(image.width * LESS), round(image.height * LESS)
    return encoded(image.resize(size, Image.Resampling.LANCZOS))


def _thin(payload: dict[str, Any], which: int) -> None:
    """Keep about half of one slider's values."""
    slider = payload["sliders"][which]
    n, at = len(slider["values"]), slider["start"]
    kept = spread(n, at, max(FEW, n // 2))
    inner = 1 if which == len(payload["sliders"]) - 1 else _last(payload)
    payload["frames"] = [
        frame for i, frame in enumerate(payload["frames"]) if i // inner % n in kept
    ]
    slider["values"] = [slider["values"][i] for i in kept]
    slider["start"] = kept.index(at)


def _last(payload: dict[str, Any]) -> int:
    return len(payload["sliders"][-1]["values"])


def _ahead(notebook: nbformat.NotebookNode) -> list[dict[str, Any]]:
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    return [output for output in outputs if MIME in output.get("data", {})]


def _size(payload: dict[str, Any]) -> int:
    return sum(map(len, payload["frames"]))


def _address(frame: str) -> str:
    """Make a data address of a picture in base64; a PNG begins with iVBOR."""
    kind = "png" if frame.startswith("iVBOR") else "webp"
    return f"data:image/{kind};base64,{frame}" if frame else ""


@lru_cache
def _template(text: str) -> Template:
    return Environment(autoescape=True).from_string(text)
