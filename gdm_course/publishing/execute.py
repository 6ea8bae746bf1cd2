"""Run one notebook in a fresh kernel and measure every cell."""

import os
import re
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from gdm_course.source import ROOT

BUILD = ROOT / "build"
OWN = "copy the course to a folder of your own"
# MPLBACKEND would hide inline figures
SWITCHES = ("GDM_SMOKE", "GDM_CHECK", "GDM_FRAMES", "MPLBACKEND")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Run:
    """What an execution left behind.

    Attributes:
        path: the notebook that was run; the file itself is not changed.
        notebook: a copy with outputs.
        cells: seconds of each code cell, by its index in the notebook.
        peak_gb: largest resident memory of the kernel in 1e9 bytes; None where unknown.
        error: the first cell's error as text, None when all cells ran.
        stopped: index of the cell that did not finish, None when all did.
    """

    path: Path
    notebook: nbformat.NotebookNode
    cells: dict[int, float] = field(default_factory=dict)
    peak_gb: float | None = None
    error: str | None = None
    stopped: int | None = None

    @property
    def seconds(self) -> float:
        """Time of all cells; starting the kernel is not counted."""
        return sum(self.cells.values())


def environment(smoke: bool = False, check: bool = False, **extra: str) -> dict[str, str]:
    """Return this process's environment with the switches of a notebook set or unset."""
    env = {k: v for k, v in os.environ.items() if k not in SWITCHES}
    env |= {"GDM_SMOKE": "1"} if smoke else {}
    env |= {"GDM_CHECK": "1"} if check else {}
    return env | extra


def execute(
    path: Path, env: dict[str, str], go_on: bool = False, cell_timeout: int = 900
) -> Run:
    """Execute a notebook from its own folder.

    Args:
        path: an `.ipynb` file.
        env: the kernel's environment, see `environment`.
        go_on: run the cells after one that raises, too.
        cell_timeout: seconds after which a cell counts as hanging.
    """
    run = Run(path, nbformat.read(path, as_version=4))
    client = NotebookClient(
        run.notebook,
        timeout=cell_timeout,
        kernel_name="python3",
        allow_errors=go_on,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # no remarks about its transport
        resources={"metadata": {"path": str(path.parent)}},
    )
    # nbclient answers an Output widget on the socket it reads from, and can then miss the
    # reply it waits for (nbclient#312); without that, the figure lands in the cell
    client.widget_registry = {}
    try:
        with client.setup_kernel(env=env):
            try:
                _run_cells(client, run)
            finally:
                run.peak_gb = peak_memory(client.km.provisioner.pid)
    except (CellExecutionError, CellTimeoutError, RuntimeError) as error:
        run.error = ANSI.sub("", str(error))  # RuntimeError: it died, or never started
    return run


def _run_cells(client: NotebookClient, run: Run) -> None:
    for index, cell in enumerate(run.notebook.cells):
        if cell.cell_type != "code":
            continue
        run.stopped, start = index, time.perf_counter()
        client.execute_cell(cell, index)
        run.cells[index], run.stopped = time.perf_counter() - start, None


def peak_memory(pid: int) -> float | None:
    """Largest resident memory a process had so far, in 1e9 bytes; None without /proc."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 / 1e9 if found else None


def errors(notebook: nbformat.NotebookNode) -> list[tuple[int, str, str]]:
    """List (cell index, error name, message) for every error output of a notebook."""
    return [
        (i, out.ename, out.evalue)
        for i, cell in enumerate(notebook.cells)
        for out in cell.get("outputs", [])
        if out.output_type == "error"
    ]


def because(run: Run) -> str | None:
    """Why a run stopped, in one line; None when all cells ran."""
    if run.error is None:
        return None
    raised = [f"{name}: {message}" for _, name, message in errors(run.notebook)[-1:]]
    said = raised[0] if raised else run.error.strip().partition("\n")[0]
    return " ".join(ANSI.sub("", said).split())


def printed(cell: nbformat.NotebookNode, stream: str = "stdout") -> str:
    """All that a cell wrote to a stream, without colour codes."""
    outs = [o.text for o in cell.get("outputs", []) if o.get("name") == stream]
    return ANSI.sub("", "".join(outs))


def notebooks(*trees: str) -> list[Path]:
    """List the units' notebooks of some trees (such as "lectures"), in course order."""
    course = tomllib.loads(
        (ROOT / "gdm_course" / "course.toml").read_text(encoding="utf-8")
    )
    paths = [ROOT / tree / f"{unit}.ipynb" for tree in trees for unit in course["units"]]
    return [path for path in paths if path.is_file()]


def without_widgets(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Copy a notebook, keeping each widget's still figure and dropping the widget."""
    copied = nbformat.from_dict(notebook)
    copied.metadata.pop("widgets", None)
    for cell in copied.cells:
        outputs = cell.get("outputs", [])
        for out in outputs:
            out.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        cell.update(
            {"outputs": [o for o in outputs if o.get("data") != {}]} if outputs else {}
        )
    return copied
