"""Figures that move: `play` with sliders, `watch` training, `progress` of anything slow.

All three also work where nobody can move a slider (a script, `nbval`, a web page): they
leave exactly one static figure, or one line.

    def draw(shift, sigma):                                  # any pyplot figure
        ax = plot.density_1d(Normal(shift, sigma).log_prob, (-5, 5))
        ax.set_title(f"shift {shift:.1f}")

    play(draw, shift=(-3.0, 3.0, 0.1), sigma=[0.5, 1.0, 2.0])

    panels = {"model": lambda ax: plot.density(model.log_prob, toy.bounds, ax)}
    for step, loss in watch(train(model, forever(x, 256), 2000), every=200, panels=panels):
        ...                                                   # the loop is still yours
"""

import base64
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gdm_course import frames, plotting
from gdm_course.chance import own_chance
from gdm_course.console import say
from gdm_course.environment import on
from gdm_course.jupyter_display import in_kernel, live, png, quiet, show

Panels = Mapping[str, Callable[[Axes], Any]]
WIDGET = "application/vnd.jupyter.widget-view+json"


def play(draw: Callable[..., Any], **sliders: Any) -> None:
    """Draw a figure with sliders above it; it is drawn again when one is let go.

    Without a front end, or with GDM_SMOKE or CI set, only the first figure is drawn.
    Readers of a saved page see that figure too; with GDM_FRAMES set, those of the website
    and of a deck move sliders over pictures drawn ahead. Drawing leaves the random numbers
    of later cells alone.

    Args:
        draw: called with one keyword per slider; draws one pyplot figure (words belong into
            its titles: what it prints piles up).
        **sliders: `(low, high, step)`, starting half way, or `(low, high, step, start)`;
            whole numbers if all are int. A list is a slider over its items, starting at the
            first; a bool is a check box.
    """
    with own_chance():
        draw(**{name: frames.start(spec) for name, spec in sliders.items()})
    if on("GDM_FRAMES") and in_kernel():
        _ahead(draw, sliders)
    elif live():
        _interactive(draw, sliders, png(plt.gcf()))
    else:
        show(plt.gcf())


def _interactive(
    draw: Callable[..., Any], sliders: Mapping[str, Any], first: bytes
) -> None:
    """Display the sliders over a picture, and draw it anew when one is let go.

    An `Image`, not an `Output`: on those nbclient stalls now and then until its time-out.
    """
    import ipywidgets
    from IPython.display import display

    controls = {name: _control(name, spec) for name, spec in sliders.items()}
    picture = ipywidgets.Image(value=first, format="png", layout={"max_width": "100%"})
    trouble = (
        ipywidgets.Label()
    )  # an error in a callback would vanish into the kernel's log

    def redraw(_change: Any) -> None:
        try:
            with own_chance():
                draw(**{name: control.value for name, control in controls.items()})
            picture.value, trouble.value = png(plt.gcf()), ""
        except Exception as error:
            plt.close()
            trouble.value = f"{type(error).__name__}: {error}"

    for control in controls.values():
        control.observe(redraw, names="value")
    box = ipywidgets.VBox([*controls.values(), picture, trouble])
    display(_two_faces(box, first), raw=True)


def _ahead(draw: Callable[..., Any], sliders: Mapping[str, Any]) -> None:
    """Display pictures at many values, and the still figure for whom cannot move them."""
    from IPython.display import display

    alt, first = frames.in_words(plt.gcf()), png(plt.gcf())
    payload = frames.ahead(draw, sliders, first, alt)
    image = base64.b64encode(first).decode()
    data = {frames.MIME: payload, "image/png": image, "text/plain": "figure"}
    display(data, raw=True)


def _two_faces(widget: Any, still: bytes) -> dict[str, Any]:
    """Make one output of a widget and of the still figure for readers without a kernel."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    image = base64.b64encode(still).decode()
    return {WIDGET: view, "image/png": image, "text/plain": "figure"}


def _control(name: str, spec: Any) -> Any:
    """Make the ipywidget for one keyword of `play`."""
    import ipywidgets

    common = {"description": name.replace("_", " "), "continuous_update": False}
    if isinstance(spec, bool):
        return ipywidgets.Checkbox(value=spec, description=common["description"])
    if isinstance(spec, list):
        return ipywidgets.SelectionSlider(options=spec, **common)
    if not (isinstance(spec, tuple) and len(spec) in (3, 4)):
        raise TypeError(
            f"{name}={spec!r}: give (low, high, step), a list or a bool to `play`"
        )
    whole = all(isinstance(v, int) for v in spec)
    slider = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    return slider(
        value=frames.start(spec), min=spec[0], max=spec[1], step=spec[2], **common
    )


def watch(
    steps: Iterable[tuple[int, float]],
    every: int = 100,
    panels: Panels | None = None,
    unit: str = "nats",
) -> Iterator[tuple[int, float]]:
    """Hand on (step, loss) pairs while one figure shows the loss and the model so far.

    The figure is drawn again in place after every `every` steps, but so seldom that drawing
    takes a fifth of the time at most. However the loop ends, the last figure stays; without
    a front end it is the only one. Drawing does not touch the random numbers of training.

    Args:
        steps: what `train` yields.
        every: steps between two drawings.
        panels: title -> function that draws the model's state into an `Axes`.
        unit: of the loss.
    """
    losses: list[float] = []
    handle, rest, last = None, 0.0, time.perf_counter()
    try:
        for step, loss in steps:
            losses.append(loss)
            yield step, loss
            now = time.perf_counter()
            if live() and step % every == 0 and now - last > rest:
                handle = show(_progress_figure(losses, panels or {}, unit), handle)
                last = time.perf_counter()
                rest = 4 * (last - now)
    finally:
        if losses:
            _last_figure(losses, panels or {}, unit, handle)


def _last_figure(losses: list[float], panels: Panels, unit: str, handle: Any) -> None:
    """Show the state at the end; if that fails, an error that ended the loop goes first."""
    ending = sys.exc_info()[0] is not None
    try:
        show(_progress_figure(losses, panels, unit), handle)
    except Exception as error:
        if not ending:
            raise
        say(f"the last figure is missing: {type(error).__name__}: {error}")


def _progress_figure(losses: list[float], panels: Panels, unit: str) -> Figure:
    """Draw the loss, pale, its running mean over the last fiftieth, and every panel."""
    first, *others = plotting.panels("", *panels, width=3.4)
    y = plotting.drawable(losses, first)
    k = max(1, len(y) // 50)
    mean = np.convolve(y, np.ones(k) / k, mode="valid")
    first.plot(np.arange(1, len(y) + 1), y, color=plotting.BLUE, alpha=0.25, linewidth=0.8)
    first.plot(np.arange(k, len(y) + 1), mean, color=plotting.BLUE)
    # a wild first loss must not flatten the rest
    low, high = (
        np.quantile(y[np.isfinite(y)], [0.0, 0.98]) if np.isfinite(y).any() else (0, 1)
    )
    first.set_ylim(low - 0.05 * (high - low) - 1e-9, high + 0.2 * (high - low) + 1e-9)
    first.set(xlabel="step", ylabel=f"loss ({unit})")
    first.set_title(f"step {len(y):,}: loss {mean[-1]:.3f}")
    try:
        for ax, draw in zip(others, panels.values()):
            with torch.no_grad(), own_chance(0):  # the same noise in every frame
                draw(ax)
    except BaseException:
        plt.close(first.figure)
        raise
    return first.figure


def progress(
    items: Iterable[Any], total: int | None = None, label: str = ""
) -> Iterator[Any]:
    """Hand on items under a progress bar, which appears after 2 s.

    With GDM_SMOKE or CI set there is no bar but one line at the end.
    """
    from tqdm.auto import tqdm

    total = total if total is not None else getattr(items, "__len__", lambda: None)()
    began, done = time.perf_counter(), 0
    still = quiet()
    for done, item in enumerate(tqdm(items, label, total, delay=2, disable=still), 1):  # noqa: B007
        yield item
    if still:
        print(f"{label or 'done'}: {done:,} in {time.perf_counter() - began:.1f} s")
