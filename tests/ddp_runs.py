"""Two processes train as one: a program for tests of what layers learn by themselves.

`python ddp_runs.py FOLDER NAME...` trains models on two processes of the CPU, each with
half of the rows, and prints per model, as JSON, the largest difference of a weight or
buffer between them (`gap`), and from one process with all rows (`off`).
"""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from gdm_course.flows.glow import Glow
from gdm_course.flows.realnvp import RealNVP
from gdm_course.vae.decoders import GaussianPixels
from gdm_course.vae.fsq import FiniteScalarQuantiser
from gdm_course.vae.quantise import VectorQuantiser, nearest, straight_through
from gdm_course.vae.vqvae import VQVAE

ROOT = Path(__file__).resolve().parent.parent


class GradientCodes(nn.Module):
    """A codebook that learns by the gradient, as in the first paper: DDP's own affair."""

    def __init__(self, K: int, D: int):
        super().__init__()
        self.K, self.D, self.codebook = K, D, nn.Parameter(torch.randn(K, D))

    def lookup(self, codes: Tensor) -> Tensor:
        return self.codebook[codes]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        codes = nearest(z.detach().flatten(0, -2), self.codebook.detach())
        q, codes = self.lookup(codes).view_as(z), codes.view(z.shape[:-1])
        return straight_through(z, q), codes, (z - q).square().sum(-1)


def pictures(quantiser: nn.Module) -> VQVAE:
    return VQVAE(
        (1, 8, 8), quantiser=quantiser, features=4, observation=GaussianPixels(0.5)
    )


# A model, the shape of one row, and how many of 64 rows the first process takes.
MODELS = {
    "RealNVP": (lambda: RealNVP(2, layers=2, hidden=8), (2,), 32),
    "Glow": (lambda: Glow((1, 4, 4), scales=1, steps=2, hidden=4), (1, 4, 4), 32),
    "codebook": (lambda: pictures(VectorQuantiser(8, 3, share=0)), (1, 8, 8), 32),
    "revived": (lambda: pictures(VectorQuantiser(64, 3, share=0.5)), (1, 8, 8), 24),
    "grid": (lambda: pictures(FiniteScalarQuantiser((4, 3, 2))), (1, 8, 8), 32),
    "gradient": (lambda: pictures(GradientCodes(8, 3)), (1, 8, 8), 32),
}


class Loss(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.loss(x)


def trained(name: str, rows: slice, wrap) -> Tensor:
    """All weights and buffers after three steps with these of 64 rows, as one vector."""
    make, shape, _ = MODELS[name]
    torch.manual_seed(0)
    objective, x = wrap(Loss(make())), 1 + 3 * torch.randn(64, *shape)
    optimizer = torch.optim.SGD(objective.parameters(), 1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        objective(x[rows]).backward()
        optimizer.step()
    return torch.cat([t.double().flatten() for t in objective.state_dict().values()])


def work(rank: int, folder: str, names: list[str]) -> None:
    """What one of the processes does."""
    place = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=2)
    states = {}
    for name in names:
        first = MODELS[name][2]
        rows = slice(0, first) if rank == 0 else slice(first, 64)
        states[name] = trained(name, rows, nn.parallel.DistributedDataParallel)
    torch.save(states, f"{folder}/{rank}")
    dist.destroy_process_group()


def two_processes(*names: str) -> list[dict]:
    """Run this program in a process of its own and return what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, folder, *names]
        env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    folder, *names = sys.argv[1:]
    mp.start_processes(work, (folder, names), nprocs=2, start_method="fork")
    one, other = (torch.load(f"{folder}/{rank}") for rank in (0, 1))
    for name in names:
        alone = trained(name, slice(None), nn.Sequential)
        gap, off = (one[name] - other[name], one[name] - alone)
        told = {"gap": gap.abs().max().item(), "off": off.abs().max().item()}
        print(json.dumps({"name": name, **told}))
