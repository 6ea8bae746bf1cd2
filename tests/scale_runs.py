"""Programs that test_scale.py runs in processes of their own: kills, and two devices.

`python scale_runs.py kill FOLDER WHO`: the same tiny run twice, left alone, and killed
(SIGKILL) at random moments and resumed until it ends.
`python scale_runs.py devices N FOLDER PRECISION`: one run on N processes.
"""

import os
import random
import signal
import sys
import warnings
from pathlib import Path

import torch
from lightning.fabric import Fabric

from gdm_course.recipes import Metric, Recipe
from gdm_course.scale import run as run_room
from gdm_course.scale import runner, whole

TINY = {
    "name": "autoregressive/tiny",
    "unit": "autoregressive/nade",
    "model": "autoregressive.made.MADE",
    "args": (64,),
    "data": "scale.data.binary_images",
    "data_args": ("digits",),
    "batch": 50,
    "warmup": 5,
}


def noisy() -> Recipe:
    """A run that draws from torch's generator at every step, averages, and clips."""
    kwargs = {"hidden": (16,), "dropout": 0.3, "orders": 3}
    more = {"steps": 60, "every": 7, "ema": 0.9, "clip": 20.0, "weight_decay": 0.1}
    return Recipe(**TINY, **more, kwargs=kwargs)


PLAYERS = {
    "name": "autoregressive/tiny",
    "unit": "autoregressive/nade",
    "model": "gan.gan.RelativisticGAN",
    "args": (2,),
    "kwargs": {"hidden": 8, "r1": 0.1, "r2": 0.1},
    "loop": "gan.gan.train_gan",
    "optimizer": "training.for_players",
    "data": "scale.points.toy_points",
    "data_args": ("ring", 500),
    "metrics": (Metric("distance", "evaluation.features.frechet_of_points", "1"),),
    "steps": 60,
    "every": 7,
    "batch": 20,
    "warmup": 5,
    "lr": 1e-2,
    "ema": 0.9,
}


def players() -> Recipe:
    """Two players, three moves of the one for each of the other."""
    return Recipe(**PLAYERS, critic_steps=3)


def plain(precision: str = "32-true") -> Recipe:
    """A run without chance in the model: it must not depend on the number of processes."""
    return Recipe(**TINY, steps=45, every=15, kwargs={"hidden": (16,)}, precision=precision)


def in_child(recipe: Recipe, folder: Path, moment: int | None) -> int:
    """Run a recipe in a fork, killed at a moment if given; return how the fork ended."""
    child = os.fork()
    if child == 0:
        if moment is not None:
            die_at(moment)
        runner.publish = exactly(runner.publish, folder / "exact")
        fabric = Fabric(accelerator="cpu", devices=1)
        runner.fit(recipe, fabric, folder / "runs", folder / "out", say=lambda line: None)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def exactly(publish, path: Path):
    """Also write every bit of a finished run to a file: half precision might hide some."""

    def wrapped(run, *rest):
        parts = [run.model.state_dict(), run.average.state_dict(), run.best]
        parts += run.optimizer.state_dict()["state"].values()
        bits = b"".join(t.numpy().tobytes() for part in parts for t in part.values())
        path.write_bytes(bits + torch.get_rng_state().numpy().tobytes())
        return publish(run, *rest)

    return wrapped


def die_at(moment: int) -> None:
    """Kill this process at its n-th moment: around any step and any call that writes."""
    left = iter(range(moment, -1, -1))

    def passing(call):
        def wrapped(*args, **kwargs):
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            made = call(*args, **kwargs)
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return made

        return wrapped

    runner.count_step = passing(runner.count_step)
    run_room.save = passing(run_room.save)
    whole.os = type("os", (), {n: getattr(os, n) for n in dir(os) if n.isidentifier()})
    for name in ("fsync", "replace"):
        setattr(whole.os, name, staticmethod(passing(getattr(os, name))))


def kill(folder: Path, recipe: Recipe) -> None:
    """Print the exit codes of all attempts, the uninterrupted one first."""
    torch.set_num_threads(1)
    g = random.Random(0)
    codes = [in_child(recipe, folder / "whole", None)]
    while len(codes) < 2 or codes[-1] == -signal.SIGKILL:
        codes.append(in_child(recipe, folder / "killed", g.randrange(15, 70)))
    print(*codes)


def devices(n: int, folder: Path, precision: str) -> None:
    """Train `plain` on n processes of the CPU."""
    fabric = Fabric(accelerator="cpu", devices=n, precision=precision)
    fabric.launch()
    say = (lambda line: print(line, flush=True)) if fabric.is_global_zero else None
    runner.fit(plain(precision), fabric, folder / "runs", folder / "out", say=say)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1] == "kill":
        kill(Path(sys.argv[2]), {"noisy": noisy, "players": players}[sys.argv[3]]())
    else:
        devices(int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
