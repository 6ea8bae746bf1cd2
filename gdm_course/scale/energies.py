"""Likelihoods of energy-based models: exact where log Z is, else by annealing."""

import copy
import hashlib
import math

import torch
from torch import Tensor

from gdm_course import checkpoints
from gdm_course.energy.ais import LogZ, annealed_log_weights, log_z_estimate, log_z_start
from gdm_course.energy.dbn import DBN, tied
from gdm_course.energy.rbm import RBM, PersistentRBM, logit_mean
from gdm_course.evaluation.likelihood import Estimate, estimate

CHAINS, TEMPERATURES = 1000, 3000
_found: dict[str, LogZ] = {}  # of the weights annealed last: one walk serves all figures


def at_means(model: RBM, x: Tensor) -> None:
    """Start the visible biases where the data's means are, x (N, D)."""
    model.b.data.copy_(logit_mean(x))


def on_an_rbm(model: DBN, x: Tensor) -> None:
    """Start two layers from the best RBM that the course has for them.

    The top one is that RBM upside down. Has it another size, it is left as it is, but for
    its visible biases: they start at the means of the hidden bits of the data x (N, D).
    """
    names = ("energy/rbm-mnist", "energy/rbm-mnist-cpu")
    name = next(filter(checkpoints.available, names))
    first, top = model.rbms
    first.load_state_dict(checkpoints.load(name).state_dict() | {"chain": first.chain})
    if top.W.shape == first.W.T.shape:
        top.load_state_dict(tied(first).state_dict() | {"chain": top.chain})
    else:
        at_means(top, first.hidden(x.to(first.W)))


def shipped(model: PersistentRBM) -> PersistentRBM:
    """Return a copy whose weights are rounded to half precision, as a checkpoint's are."""
    copied = copy.deepcopy(model).requires_grad_(False)
    for p in copied.parameters():
        p.copy_(p.half())
    return copied


def annealed(model: PersistentRBM) -> LogZ:
    """Return log Z by 1,000 chains over 3,000 temperatures, from the chains' means."""
    model = shipped(model)  # else the end of training and its card would walk twice
    weights = (p.float().cpu().numpy().tobytes() for p in model.parameters())
    key = hashlib.sha256(b"".join(weights)).hexdigest()
    if key not in _found:
        a, t = (
            logit_mean(model.chain).to(model.b),
            torch.linspace(0, 1, TEMPERATURES + 1).double(),
        )
        betas = (
            1 - (1 - t) ** 3
        ).tolist()  # most of them near the model, where chains hardly move
        log_w = annealed_log_weights(model, a, betas, CHAINS)
        _found.clear()
        _found[key] = log_z_estimate(log_w, log_z_start(a, len(model.c)))
    return _found[key]


@torch.no_grad()
def annealed_nll(model: PersistentRBM, x: Tensor) -> Estimate:
    """Estimate the mean of -log p in nats. Its error has that of log Z in it.

    A log Z that is too low makes the model look better: look at `effective_chains`.
    """
    log_z, F = annealed(model), estimate(torch.cat([*map(model.energy, x.split(1000))]))
    return Estimate(F.value + log_z.value, math.hypot(F.error, log_z.error))


@torch.no_grad()
def effective_chains(model: PersistentRBM, x: Tensor) -> Estimate:
    """Return how many of the 1,000 chains the estimate of log Z rests on; x is not used."""
    return Estimate(annealed(model).effective, 0.0)


@torch.no_grad()
def exact_nll(model: RBM, x: Tensor) -> Estimate:
    """Return the mean of -log p in nats, with log Z from all states of the smaller side."""
    log_z = model.log_z().item()
    return estimate(torch.cat([*map(model.energy, x.split(1000))]) + log_z)


@torch.no_grad()
def bound_nll(model: DBN, x: Tensor) -> Estimate:
    """Estimate a bound on the mean of -log p in nats; log Z of the top RBM by annealing."""
    log_z = annealed(model.top)
    told = estimate(-torch.cat([model.elbo(v, log_z.value) for v in x.split(1000)]))
    return Estimate(told.value, math.hypot(told.error, log_z.error))


@torch.no_grad()
def effective_on_top(model: DBN, x: Tensor) -> Estimate:
    """Return how many of the 1,000 chains that bound rests on; x is not used."""
    return Estimate(annealed(model.top).effective, 0.0)
