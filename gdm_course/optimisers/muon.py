"""Muon: an optimiser for matrices. What AdamW does entry by entry, it does by directions.

References:
    Jordan et al. (2024). Muon: an optimizer for hidden layers in neural networks.
    Liu et al. (2025). Muon is scalable for LLM training. arXiv:2502.16982.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def orthogonalise(G: Tensor, steps: int = 5) -> Tensor:
    """Bring all singular values of a matrix near 1, keeping its directions: U S V' -> U V'.

    The Newton-Schulz iteration X <- a X + b (X X') X + c (X X')^2 X acts on each singular
    value by itself, as the polynomial a s + b s^3 + c s^5. It is steep at 0, so that five
    steps bring all values above about |G| / 600 to between 0.68 and 1.21; smaller ones
    grow about 480 times.

    Args:
        G: one matrix (m, n), or a batch (..., m, n).
        steps: of the iteration.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    X = G.mT if G.shape[-2] > G.shape[-1] else G  # the smaller side first: less work
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)  # now all values are at most 1
    for _ in range(steps):
        A = X @ X.mT
        X = a * X + (b * A + c * A @ A) @ X
    return X.mT if G.shape[-2] > G.shape[-1] else X


def average(state: dict, p: Tensor, name: str) -> Tensor:
    """Return a running average that belongs to a parameter, zero at first."""
    if name not in state[p]:
        state[p][name] = torch.zeros_like(p)
    return state[p][name]


def by_directions(parameters, state, group) -> Iterable[tuple[Tensor, Tensor]]:
    """Orthogonalise Nesterov's momentum, matrices of one shape in one batch."""
    same = defaultdict(list)
    for p in parameters:
        same[p.shape].append(p)
    for (m, n), ps in same.items():
        means = [average(state, p, "mean") for p in ps]
        for p, mean in zip(ps, means):
            mean.lerp_(p.grad, 1 - group["momentum"])
        ahead = [p.grad.lerp(mean, group["momentum"]) for p, mean in zip(ps, means)]
        yield from zip(ps, 0.2 * max(m, n) ** 0.5 * orthogonalise(torch.stack(ahead)))


def by_entries(parameters, state, group) -> Iterable[tuple[Tensor, Tensor]]:
    """Adam: the mean of gradients over the root of the mean of their squares."""
    beta_1, beta_2, t = 0.9, 0.95, group["step"]
    for p in parameters:
        mean = average(state, p, "mean").lerp_(p.grad, 1 - beta_1) / (1 - beta_1**t)
        square = average(state, p, "square").lerp_(p.grad**2, 1 - beta_2)
        yield p, mean / ((square / (1 - beta_2**t)).sqrt() + 1e-8)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised, for matrices; Adam for all other parameters.

    A step is scaled to the size of Adam's steps (Liu et al. 2025), so that one learning
    rate serves both.

    Args:
        matrices: weights of hidden layers (m, n).
        others: embeddings, biases, norms.
        lr, momentum, weight_decay: of both; decay shrinks matrices only.
    """

    def __init__(self, matrices, others, lr=3e-3, *, momentum=0.95, weight_decay=0.0):
        groups = [{"params": [*matrices]}, {"params": [*others], "weight_decay": 0.0}]
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "step": 0}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self) -> None:
        """Take one step."""
        for group, updates in zip(self.param_groups, (by_directions, by_entries)):
            group["step"] += 1
            parameters = [p for p in group["params"] if p.grad is not None]
            for p, u in updates(parameters, self.state, group):
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(u, alpha=group["lr"])


def muon(model: nn.Module, lr: float = 3e-3, weight_decay: float = 0.0) -> Muon:
    """Return a `Muon` for a model: the weights of its linear layers are the matrices."""
    linear = (m.weight for m in model.modules() if isinstance(m, nn.Linear))
    matrices = [w for w in linear if w.requires_grad]
    chosen = {id(w) for w in matrices}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    return Muon(matrices, others, lr, weight_decay=weight_decay)
