"""One recipe of a window, in a process of its own: `python -m gdm_course.scale.job`.

The job comes pickled through the standard input, from the lane that started the process.
"""

import os
import pickle
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from gdm_course.recipes import Recipe
from gdm_course.source import ROOT

RUNS = (ROOT if (ROOT / "pyproject.toml").is_file() else Path()) / "build" / "runs"
PAUSED = 3  # how a process ends whose run goes on in the next window
RUNNING = "running"  # a file in the folder of every run that is being trained


@dataclass(frozen=True)
class Job:
    """A recipe, and what it may use.

    Attributes:
        recipe: what to train.
        runs, out: folders of unfinished runs and of finished checkpoints.
        end: when its share of the window is over, as `time.time` counts.
        accelerator: of Lightning Fabric.
        resume: go on with an unfinished run.
    """

    recipe: Recipe
    runs: Path
    out: Path
    end: float
    accelerator: str = "auto"
    resume: bool = True


def neighbours(job: Job) -> list[str]:
    """Return the names of the other recipes that are being trained just now."""
    names = (p.parent.relative_to(job.runs) for p in job.runs.glob(f"*/*/{RUNNING}"))
    return [name.as_posix() for name in names if name.as_posix() != job.recipe.name]


def work(job: Job) -> int:
    """Train until the share is over; return how the process is to end."""
    import torch
    from lightning.fabric import Fabric

    from gdm_course.scale.pace import Fitted
    from gdm_course.scale.runner import fit

    pace = Fitted(job.end, say, lambda: neighbours(job))
    signal.signal(signal.SIGTERM, lambda *_: pace.stop())
    precision = job.recipe.precision
    fabric = Fabric(accelerator=job.accelerator, devices=1, precision=precision)
    fabric.launch()
    if fabric.device.type == "cuda":
        repeatable(torch)
    card = fit(job.recipe, fabric, job.runs, job.out, job.resume, say, pace)
    return 0 if card else PAUSED


def repeatable(torch) -> None:
    """Let a GPU compute the same bits each time, and round products to TF32."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.set_float32_matmul_precision("high")


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def main() -> None:
    """Do the job of the standard input; whatever goes wrong ends in one sentence."""
    import warnings

    warnings.simplefilter("ignore")  # of torch, on how it could be faster
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else not repeatable
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(PAUSED))
    job = pickle.load(sys.stdin.buffer)
    try:
        code = work(job)
    except Exception as error:
        lines = traceback.extract_tb(error.__traceback__)
        where = f"{Path(lines[-1].filename).name}:{lines[-1].lineno}"
        told = (str(error).strip() or "no words").split("\n")[0]
        say(f"✘ {job.recipe.name}: {told} ({type(error).__name__}, {where})")
        code = 1
    sys.stdout.flush()
    os._exit(code)  # at once: all is written, and a GPU's libraries take long to leave


if __name__ == "__main__":
    main()
