"""Questions of the unit energy/boltzmann."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from gdm_course.checks.question import Inputs, Mistake, close
from gdm_course.energy.experts import product_of_gaussians as _product


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=g)


def _coins(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(2, shape, generator=g).float()


# 1. One spin, given the others ------------------------------------------------------------


def _push(s: Tensor, J: Tensor, b: Tensor, i: int) -> Tensor:
    """What the others and the bias say to spin i: (B,)."""
    return s @ J[i] - s[:, i] * J[i, i] + b[i]


def _flip(s: Tensor, J: Tensor, b: Tensor, i: int) -> Tensor:
    return torch.sigmoid(2 * _push(s, J, b, i))


def _spins(B: int, D: int, i: int) -> Inputs:
    """Spins, symmetric wires with a diagonal that means nothing, biases, and which spin."""

    def draw(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
        J = _normal(g, D, D) / D**0.5
        return 2 * _coins(g, B, D) - 1, (J + J.T) / 2, 0.5 + _normal(g, D).abs() / 2, i

    return draw


spin_probability = close(
    "spin_probability",
    _flip,
    {"": _spins(7, 5, 3), "one state": _spins(1, 4, 0), "two spins": _spins(5, 2, 1)},
    [
        Mistake(
            lambda s, J, b, i: torch.sigmoid(_push(s, J, b, i)),
            "the two energies differ by twice the push, since s goes from -1 to +1",
        ),
        Mistake(
            lambda s, J, b, i: 1 - _flip(s, J, b, i),
            "the sign is wrong: a positive push makes +1 likely; this is p(s_i = -1)",
        ),
        Mistake(
            lambda s, J, b, i: torch.sigmoid(2 * (s @ J[i] + b[i])),
            "J_ii is counted: s_i^2 is 1 either way, so a spin does not push itself",
        ),
        Mistake(
            lambda s, J, b, i: torch.sigmoid(2 * _push(s, J, 0 * b, i)),
            "the bias of the spin is missing",
        ),
        Mistake(
            lambda s, J, b, i: torch.sigmoid(2 * _push(s, J, b / 2, i)),
            "the factor 2 belongs to the bias, too: b_i s_i also goes from -b_i to +b_i",
        ),
    ],
)


# 2. The free energy -----------------------------------------------------------------------


def _free(v: Tensor, W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return -(v @ b) - F.softplus(c + v @ W).sum(1)


def _machine(B: int, D: int, H: int, scale: float = 1.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        W, b, c = (scale * _normal(g, *size) for size in ((D, H), (D,), (H,)))
        return _coins(g, B, D), W, b, c

    return draw


free_energy = close(
    "free_energy",
    _free,
    {
        "": _machine(6, 5, 4),
        "large weights": _machine(9, 12, 8, 120.0),
        "one pattern": _machine(1, 3, 2),
    },
    [
        Mistake(
            lambda v, W, b, c: -(v @ b) + F.softplus(c + v @ W).sum(1),
            "F = -log of a sum: the softplus terms lower the energy, they are subtracted",
        ),
        Mistake(
            lambda v, W, b, c: -(v @ b) - torch.relu(c + v @ W).sum(1),
            "this is the energy with the best h, its minimum: sum over h, so softplus",
        ),
        Mistake(
            lambda v, W, b, c: -(v @ b) - torch.sigmoid(c + v @ W).sum(1),
            "sigmoid is the slope of softplus; the sum over h_j = 0, 1 gives log(1 + e^a)",
        ),
        Mistake(
            lambda v, W, b, c: -(v @ b) - F.softplus(c + v @ W).mean(1),
            "hidden units add up: the terms are summed over j, not averaged",
        ),
        Mistake(
            lambda v, W, b, c: -(v @ b) - (1 + torch.exp(c + v @ W)).log().sum(1),
            "log(1 + e^a) overflows where a is large: there it is a. Use softplus, or "
            "logaddexp",
        ),
        Mistake(
            lambda v, W, b, c: -F.softplus(c + v @ W).sum(1),
            "the visible units' own biases are missing: -b'v",
        ),
    ],
)


# 3. The direction of contrastive divergence -----------------------------------------------


def _pairs(v: Tensor, W: Tensor, c: Tensor) -> Tensor:
    return v.T @ torch.sigmoid(c + v @ W) / len(v)


def _cd(v0: Tensor, vk: Tensor, W: Tensor, c: Tensor) -> Tensor:
    return _pairs(v0, W, c) - _pairs(vk, W, c)


def _two_ends(B: int, n: int, D: int, H: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        v0, vk = _coins(g, B, D), _coins(g, n, D)
        return v0, vk, _normal(g, D, H), _normal(g, H)

    return draw


cd_gradient = close(
    "cd_gradient",
    _cd,
    {"": _two_ends(8, 8, 5, 4), "more chains than data": _two_ends(3, 11, 4, 2)},
    [
        Mistake(
            lambda v0, vk, W, c: -_cd(v0, vk, W, c),
            "this is model minus data, the slope of the loss; asked for is that of log p",
        ),
        Mistake(
            lambda v0, vk, W, c: _pairs(v0, W, c) * len(v0) - _pairs(vk, W, c) * len(vk),
            "both sides are means over their rows, not sums",
        ),
        Mistake(
            lambda v0, vk, W, c: (
                (_pairs(v0, W, c) * len(v0) - _pairs(vk, W, c) * len(vk)) / len(v0)
            ),
            "the chains' sum is divided by their own number, which need not be that of "
            "the data",
        ),
        Mistake(
            lambda v0, vk, W, c: _cd(v0, vk, W, 0 * c),
            "the hidden biases are missing: p(h = 1 | v) = sigmoid(c + v'W)",
        ),
        Mistake(
            lambda v0, vk, W, c: (
                v0.T @ (c + v0 @ W) / len(v0) - vk.T @ (c + vk @ W) / len(vk)
            ),
            "the sigmoid is missing: the pairs hold probabilities of h, not its inputs",
        ),
    ],
)


# 4. log Z from the hidden side ------------------------------------------------------------


def _patterns(n: int, like: Tensor) -> Tensor:
    return torch.tensor([*itertools.product([0, 1], repeat=n)]).to(like)


def _each(W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Minus the energy of every h, with v summed out: (2^H,)."""
    h = _patterns(len(c), W)
    return h @ c + F.softplus(b + h @ W.T).sum(1)


def _log_z(W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.logsumexp(_each(W, b, c), 0)


def _weights(D: int, H: int, offset: float = 0.0) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, ...]:
        return _normal(g, D, H), offset + _normal(g, D), 1 + _normal(g, H).abs()

    return draw


def _alike(D: int, H: int) -> Inputs:
    """Weak wires: all hidden patterns weigh about the same: none may be left out."""
    return lambda g: tuple(0.1 * _normal(g, *size) for size in ((D, H), (D,), (H,)))


def _best_half(W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The sum over the half of the patterns that weighs most."""
    terms = _each(W, b, c)
    return torch.logsumexp(terms.topk(len(terms) // 2).values, 0)


def _unit_vectors(W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    h = torch.eye(len(c)).to(W)
    return torch.logsumexp(h @ c + F.softplus(b + h @ W.T).sum(1), 0)


log_z_by_hidden = close(
    "log_z_by_hidden",
    _log_z,
    {
        "": _weights(5, 3),
        "60 visible units": _weights(60, 4, 3.0),
        "weak wires": _alike(6, 4),
        "one hidden unit": _weights(2, 1),
    },
    [
        Mistake(
            lambda W, b, c: _each(W, b, c).exp().sum().log(),
            "e^-E overflows float32 beyond 88 nats: use logsumexp",
        ),
        Mistake(
            lambda W, b, c: _log_z(W, b, 0 * c),
            "the hidden units' own biases are missing: c'h",
        ),
        Mistake(
            _unit_vectors,
            "these are the H patterns with a single 1: there are 2^H patterns of bits",
        ),
        Mistake(
            lambda W, b, c: _log_z(W, b, c) - len(c) * torch.log(torch.tensor(2.0)),
            "this is the log of the mean over the patterns; Z is their sum",
        ),
        Mistake(
            _best_half,
            "half of the patterns are left out: each h_j is 0 as well as 1",
        ),
        Mistake(
            lambda W, b, c: _each(W, b, c).max(),
            "this is the largest term alone; Z is the sum of all 2^H",
        ),
    ],
)


# 5. One step of annealed importance sampling ----------------------------------------------


def _log_f(v: Tensor, a: Tensor, b: Tensor, c: Tensor, W: Tensor, beta: float) -> Tensor:
    return v @ ((1 - beta) * a + beta * b) + F.softplus(beta * (c + v @ W)).sum(1)


def _ais(v, a, b, c, W, beta0: float, beta1: float) -> Tensor:
    return _log_f(v, a, b, c, W, beta1) - _log_f(v, a, b, c, W, beta0)


def _only_pairs(v, a, b, c, W, beta: float) -> Tensor:
    return v @ ((1 - beta) * a + beta * b) + F.softplus(c + beta * (v @ W)).sum(1)


def _not_faded(v, a, b, c, W, beta: float) -> Tensor:
    return v @ (a + beta * b) + F.softplus(beta * (c + v @ W)).sum(1)


def _temperatures(n: int, D: int, H: int, low: float, high: float) -> Inputs:
    """States, a start's biases, an RBM, and two inverse temperatures."""

    def draw(g: torch.Generator) -> tuple:
        sizes = ((D,), (D,), (H,), (D, H))
        a, b, c, W = (_normal(g, *size) + 0.3 for size in sizes)
        return _coins(g, n, D), a, b, c, W, low, high

    return draw


ais_step_weight = close(
    "ais_step_weight",
    _ais,
    {
        "": _temperatures(6, 5, 4, 0.25, 0.75),
        "the first step": _temperatures(9, 7, 3, 0.0, 0.5),
        "all in one step": _temperatures(3, 4, 5, 0.0, 1.0),
    },
    [
        Mistake(
            lambda *given: -_ais(*given),
            "the new density stands above the old one: log f at beta1 minus log f at beta0",
        ),
        Mistake(
            lambda *given: (
                _only_pairs(*given[:5], given[6]) - _only_pairs(*given[:5], given[5])
            ),
            "beta scales the whole input of a hidden unit, its bias c too: beta (c + v'W)",
        ),
        Mistake(
            lambda *given: (
                _not_faded(*given[:5], given[6]) - _not_faded(*given[:5], given[5])
            ),
            "the start's biases a fade out: their factor is 1 - beta",
        ),
        Mistake(
            lambda v, a, b, c, W, beta0, beta1: (
                (beta1 - beta0) * (v @ (b - a) + F.softplus(c + v @ W).sum(1))
            ),
            "beta stands inside of softplus: the hidden units are summed out at each beta",
        ),
        Mistake(
            lambda *given: _ais(*given).exp(),
            "this is the factor of the weight; asked for is its logarithm",
        ),
    ],
)


# 6. A product of Gaussians ----------------------------------------------------------------


def _experts(*shape: int) -> Inputs:
    def draw(g: torch.Generator) -> tuple[Tensor, Tensor]:
        return 2 * _normal(g, *shape), 0.3 + 1.5 * torch.rand(shape, generator=g)

    return draw


product_of_gaussians = close(
    "product_of_gaussians",
    _product,
    {"": _experts(4), "two experts": _experts(2), "seven experts": _experts(7)},
    [
        Mistake(
            lambda m, s: (m.mean(0), _product(m, s)[1]),
            "the mean is weighted by precisions 1 / s^2: who is sure has more of a say",
        ),
        Mistake(
            lambda m, s: (m.mean(0), s.square().sum(0).sqrt()),
            "variances add when independent numbers are added; of a product of densities "
            "the precisions add",
        ),
        Mistake(
            lambda m, s: ((m / s).sum(0) / (1 / s).sum(0), 1 / (1 / s).sum(0)),
            "what adds up are 1 / s^2, not 1 / s",
        ),
        Mistake(
            lambda m, s: (_product(m, s)[0], _product(m, s)[1] ** 2),
            "the mean is right; this is the variance, asked for is its root, the width",
        ),
        Mistake(
            lambda m, s: (_product(m, s)[0], _product(m, s)[1] * len(m) ** 0.5),
            "the precisions are added, not averaged: a product is sharper than its factors",
        ),
    ],
)
