"""Whether each known factor has a code dimension of its own: mutual information and MIG.

Numbered equations are those of the lecture vae/beta_vae.

References:
    Chen, Li, Grosse, Duvenaud (2018). Isolating sources of disentanglement in variational
        autoencoders. arXiv:1802.04942. (The mutual information gap.)
    Locatello, Bauer, Lucic, Raetsch, Gelly, Schoelkopf, Bachem (2019). Challenging common
        assumptions in the unsupervised learning of disentangled representations.
        arXiv:1811.12359.
"""

import math

import torch
from torch import Tensor, nn

from gdm_course.batching import columns
from gdm_course.evaluation.likelihood import Estimate
from gdm_course.learning import evaluating


def discretise(z: Tensor, bins: int = 20) -> Tensor:
    """Cut every dimension into bins with equally many points: (N, K) -> int64 codes.

    Equal values always share a bin. Measure, not mean: a monotone change of a dimension
    changes nothing.

    Args:
        z: (N, K).
        bins: per dimension.
    """
    at = torch.arange(1, bins, dtype=torch.float64, device=z.device) / bins
    edges = torch.quantile(z.double(), at, dim=0).T.contiguous()  # (K, bins - 1)
    return torch.searchsorted(edges, z.double().T.contiguous()).T


def entropy(counts: Tensor) -> Tensor:
    """Return the entropy in nats of the frequencies of counts, over the last dimension."""
    p = counts.double() / counts.sum(-1, keepdim=True)
    return -torch.xlogy(p, p).sum(-1)


def mutual_information(a: Tensor, b: Tensor) -> Tensor:
    """Return I(a; b) = H(a) + H(b) - H(a, b) of two columns of codes, in nats.

    The plug-in estimate: too high by about (A - 1)(B - 1) / (2 N) nats for A and B values.

    Args:
        a, b: codes from 0, int64 (N,).
    """
    a, b = a.long(), b.long()  # bytes would wrap below
    A, B = int(a.max()) + 1, int(b.max()) + 1
    table = torch.bincount(a * B + b, minlength=A * B).view(A, B)
    return entropy(table.sum(1)) + entropy(table.sum(0)) - entropy(table.flatten())


def information_matrix(z: Tensor, factors: Tensor, bins: int = 20) -> Tensor:
    """Return I(z_k; v_f) in nats for every code dimension k and factor f: (K, F).

    Args:
        z: codes (N, K): draws from q(z | x), so that a silent dimension is noise; the mean
            of a silent one still whispers, and bins would hear it.
        factors: what the examples were made from, codes from 0, int64 (N, F).
        bins: per dimension of z.
    """
    if len(z) != len(factors):
        raise ValueError(
            f"{len(z)} codes and {len(factors)} rows of factors: give one each"
        )
    codes = discretise(z, bins)
    rows = [
        torch.stack([mutual_information(code, v) for v in factors.unbind(1)])
        for code in codes.unbind(1)
    ]
    return torch.stack(rows)


def gaps(matrix: Tensor, factors: Tensor) -> Tensor:
    """Return every factor's gap between its two most informed dimensions: (F,).

    (I(best; v) - I(second; v)) / H(v), from 0 to 1: the terms of (9). It is 1 if one
    dimension alone tells all about the factor.
    """
    best, second = matrix.topk(2, dim=0).values
    H = torch.stack([entropy(torch.bincount(v)) for v in factors.unbind(1)])
    return (best - second) / H.clamp_min(math.ulp(1.0))


def mig(z: Tensor, factors: Tensor, bins: int = 20) -> float:
    """Return the mutual information gap, the mean of `gaps` over the factors.

    Args:
        z: codes (N, K), K at least 2: draws from q(z | x).
        factors: int64 (N, F).
        bins: per dimension of z.

    Raises:
        ValueError: K is 1, or the numbers of rows differ.
    """
    if z.shape[1] < 2:
        raise ValueError("a gap is between two dimensions: z has 1, give it at least 2")
    return gaps(information_matrix(z, factors, bins), factors).mean().item()


@torch.no_grad()
def mig_estimate(model: nn.Module, split: tuple[Tensor, Tensor]) -> Estimate:
    """Return the MIG of one draw of codes, and its bootstrap standard error.

    Args:
        model: with `encode(x) -> Distribution`, batch shape (N,), event shape (K,).
        split: examples (N, *D) and their factors (N, F).
    """
    x, factors = columns(split)
    with evaluating(model):
        z = torch.cat([model.encode(rows).sample() for rows in x.split(1000)])
    again = [torch.randint(len(z), (len(z),), device=z.device) for _ in range(20)]
    spread = torch.tensor([mig(z[rows], factors[rows]) for rows in again]).std()
    return Estimate(mig(z, factors), spread.item())
