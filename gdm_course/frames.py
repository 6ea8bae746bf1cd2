"""Figures with sliders, drawn ahead of time: they move on a page that has no kernel.

`play` makes such an output where GDM_FRAMES is set, as the website and the decks do;
`gdm_course.publishing.frames` turns it into HTML.
"""

import base64
import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from itertools import product
from math import prod
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from gdm_course.chance import own_chance
from gdm_course.jupyter_display import png

MIME = "application/vnd.gdm.frames+json"
ALONE, TOGETHER = 15, 8  # values of a slider at most: of one, of each of two
QUALITY = 85  # of WebP, in percent


def ahead(
    draw: Callable[..., Any], sliders: Mapping[str, Any], still: bytes, alt: str
) -> dict[str, Any]:
    """Draw a figure on a grid of values of its first two sliders, others at their start.

    Args:
        draw: called with one keyword per slider, see `gdm_course.widgets.play`. It gets the
            random numbers that the still figure got; what it prints is dropped.
        sliders: keyword -> what `play` was given for it.
        still: the figure at the start, as PNG; it is taken as it is.
        alt: the figure in words.

    Returns:
        `sliders`, a list of `name`, `values` (labels) and `start` (an index); `frames`,
        pictures in base64, those of the last slider next to each other; `width` in pixels;
        `caption` and `alt`.
    """
    moving, fixed = [*sliders][:2], [*sliders][2:]
    most = ALONE if len(sliders) == 1 else TOGETHER
    scales = {name: scale(sliders[name], most) for name in moving}
    rest = {name: start(sliders[name]) for name in fixed}
    first = start_of([(len(values), at) for values, at in scales.values()])
    pictures = []
    for values in product(*(values for values, _ in scales.values())):
        if len(pictures) == first:
            pictures.append(still)
        else:
            pictures.append(_picture(draw, dict(zip(moving, values)) | rest))
    frames, width = webp(pictures)
    return {
        "sliders": [_slider(name, *scales[name]) for name in moving],
        "frames": frames,
        "width": width,
        "caption": _caption(moving, {name: label(value) for name, value in rest.items()}),
        "alt": alt,
    }


def start(spec: Any) -> Any:
    """Return the value a slider starts with."""
    if isinstance(spec, list):
        return spec[0]
    if not isinstance(spec, tuple):
        return spec
    if len(spec) == 4:
        return spec[3]
    low, high, step = spec
    return low + (round((high - low) / step) // 2) * step


def scale(spec: Any, most: int) -> tuple[list[Any], int]:
    """Return at most so many values of a slider, in order, and the index of its start."""
    if isinstance(spec, bool):
        values, at = [False, True], int(spec)
    elif isinstance(spec, list):
        values, at = spec, 0
    else:
        low, high, step = spec[:3]
        values = [low + i * step for i in range(int((high - low) / step + 1e-9) + 1)]
        at = min(range(len(values)), key=lambda i: abs(values[i] - start(spec)))
        values[at] = start(spec)
    kept = spread(len(values), at, most)
    return [values[i] for i in kept], kept.index(at)


def spread(n: int, at: int, most: int) -> list[int]:
    """Choose at most so many of n places (3 or more), evenly on both sides of `at`.

    Both ends and `at` are among them.
    """
    if n <= most:
        return [*range(n)]
    left = round((most - 1) * at / (n - 1))
    left = min(max(left, int(at > 0)), most - 1 - int(at < n - 1))
    right = most - 1 - left
    before = [round(i * at / left) for i in range(left)]
    after = [at + round(i * (n - 1 - at) / right) for i in range(1, right + 1)]
    return [*before, at, *after]


def start_of(sizes: list[tuple[int, int]]) -> int:
    """Return the number of the start frame, from (number of values, start) per slider."""
    return sum(at * prod(n for n, _ in sizes[i + 1 :]) for i, (_, at) in enumerate(sizes))


def label(value: Any) -> str:
    """Write a slider's value beside it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def in_words(figure: Figure) -> str:
    """Describe a figure by its titles, for those who do not see it."""
    titles = [figure.get_suptitle()]
    titles += [ax.get_title(loc) for ax in figure.axes for loc in ("left", "center")]
    return "; ".join(filter(None, titles)) or "figure"


def webp(pictures: list[bytes]) -> tuple[list[str], int]:
    """Bring pictures to one size, with white at the right and below, and to WebP in base64.

    Returns:
        The pictures and their width in pixels.
    """
    from PIL import Image

    images = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    size = max(i.width for i in images), max(i.height for i in images)
    frames = []
    for image in images:
        sheet = Image.new("RGB", size, "white")
        sheet.paste(image)
        frames.append(encoded(sheet))
    return frames, size[0]


def encoded(image: Any) -> str:
    """Write one of PIL's images as WebP in base64."""
    image.save(buffer := io.BytesIO(), format="WEBP", quality=QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


def _picture(draw: Callable[..., Any], values: dict[str, Any]) -> bytes:
    """Draw one figure; an error in it says at which values."""
    try:
        with own_chance(), redirect_stdout(io.StringIO()):
            draw(**values)
        return png(plt.gcf())
    except Exception as error:
        plt.close()
        at = ", ".join(f"{name}={value!r}" for name, value in values.items())
        error.add_note(f"while a figure with sliders was drawn ahead at {at}")
        raise


def _slider(name: str, values: list[Any], at: int) -> dict[str, Any]:
    words = name.replace("_", " ")
    return {"name": words, "values": [label(value) for value in values], "start": at}


def _caption(moving: list[str], fixed: Mapping[str, str]) -> str:
    caption = f"Move the slider{'s' * (len(moving) > 1)}."
    if fixed:
        stays = ", ".join(f"{name.replace('_', ' ')} = {at}" for name, at in fixed.items())
        them = "them" if len(fixed) > 1 else "it"
        caption += f" Here {stays}; the notebook moves {them} too."
    return caption
