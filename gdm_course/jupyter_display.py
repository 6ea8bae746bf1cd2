"""Who is looking, a Jupyter front end or nobody, and how to show a figure to either."""

import io
import sys
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from gdm_course.environment import on


def live() -> bool:
    """Say whether figures may move: in a Jupyter kernel, without GDM_SMOKE or CI set.

    GDM_LIVE=1 makes them move all the same: the browser test trains briefly and slides.
    """
    return in_kernel() and (not quiet() or on("GDM_LIVE"))


def in_kernel() -> bool:
    """Say whether this process is a Jupyter kernel (JupyterLab, Colab, nbclient)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def quiet() -> bool:
    """Say whether GDM_SMOKE or CI asks for still figures and single lines."""
    return on("GDM_SMOKE", "CI")


def png(figure: Figure) -> bytes:
    """Render a figure and close it, so that the notebook does not show it a second time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def show(figure: Figure, handle: Any = None) -> Any:
    """Show a figure, or put it in place of an earlier one; returns its handle."""
    if not in_kernel():
        if plt.get_backend().lower() != "agg":
            plt.show()
        plt.close(figure)
        return None
    from IPython.display import Image, display

    image = Image(data=png(figure), format="png")
    if handle is None:
        return display(image, display_id=True)
    handle.update(image)
    return handle
